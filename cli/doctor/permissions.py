"""Which checks this user can run: some things are visible only to root or to the service's own user."""

import os
import pwd
from pathlib import Path

from canhazgpu.config.settings import Settings

Finding = tuple[str, str, str]


def service_user(settings: Settings) -> str | None:
    """Return the user that the service runs as, or None if it has never run here."""
    for path in (settings.socket, settings.state_dir):
        try:
            owner = Path(path).stat().st_uid
        except OSError:
            continue
        try:
            return pwd.getpwuid(owner).pw_name
        except KeyError:
            return str(owner)
    return None


def has_service_rights(settings: Settings) -> bool:
    """Return whether this process has the rights of the service, so that what fails here fails there too."""
    uid = os.geteuid()
    owner = service_user(settings)
    if uid == 0:
        return True
    if owner is None:  # A service of one's own, before its first start.
        return os.access(_nearest(Path(settings.state_dir)), os.W_OK)
    try:
        return pwd.getpwuid(uid).pw_name == owner
    except KeyError:
        return str(uid) == owner


def skip_without_service_rights(settings: Settings, finding: Finding) -> Finding:
    """Return a finding that depends on the rights of this process, or `skip` without the service's rights."""
    if finding[0] == "ok" or has_service_rights(settings):
        return finding
    return skipped_check(settings, finding[1])


def skipped_check(settings: Settings, what: str) -> Finding:
    """Return the finding that something cannot be checked from here, and who can."""
    owner = service_user(settings)
    who = f"root or {owner}" if owner not in {None, "root"} else "root"
    return "skip", f"cannot be checked by you: {what}", f"{who} can: `sudo canhazgpu doctor`"


def _nearest(path: Path) -> Path:
    return path if path.exists() else next(parent for parent in path.parents if parent.exists())
