"""`canhazgpu doctor`: whether the device files of the GPUs are open to their holders only."""

import errno
import grp
import os
import pwd
import re
from collections.abc import Iterator
from pathlib import Path

from canhazgpu.cli.doctor.permissions import service_user
from canhazgpu.config.settings import Settings
from canhazgpu.service.enforcement.access import read_access
from canhazgpu.service.enforcement.device_files import REMEDIES
from canhazgpu.service.enforcement.former_access import is_suspended
from canhazgpu.service.enforcement.restoration import device_files

Finding = tuple[str, str, str]
PARAMETER = re.compile(r"^(\w+): *(\d+)", re.MULTILINE)
KEEPING = 0o660  # The group bits of a file with an ACL are its mask: this mode changes no ACL.
KEEP_MODES = (
    "set the option NVreg_ModifyDeviceFiles=0 of the module nvidia and create the files at boot, or set"
    " NVreg_DeviceFileMode=0660 and NVreg_DeviceFileGID: see docs/integrations/enforcement.md"
)


def enforcement(settings: Settings) -> Iterator[Finding]:
    """Check that the service can own the permissions of the device files, and that the driver lets it."""
    directory = Path(settings.enforcement.directory)
    files = device_files(directory) if directory.is_dir() else []
    if not settings.enforcement.devices:
        yield from _left_behind(files)
        return
    owner = service_user(settings)
    if owner not in (None, "root"):
        yield "fail", f"the service runs as {owner}, who cannot change device files", "run it as root"
    if is_suspended(Path(settings.state_dir)):
        yield "warn", "all GPUs are open: `enforcement restore` was run", "`canhazgpu enforcement resume`"
    elif files:
        yield from map(_of_file, files)
    else:
        yield "warn", f"there is no GPU device file in {directory}", REMEDIES[errno.ENOENT]
    yield from _unknown_names(settings)
    yield _of_driver(Path(settings.enforcement.driver_params))


def _left_behind(files: list[Path]) -> Iterator[Finding]:
    closed = [path.name for path in files if os.path.lexists(path) and _is_enforced(path)]
    if closed:
        found = f"enforcement.devices is off, but {', '.join(closed)} can be opened only by a former holder"
        yield "warn", found, "`canhazgpu enforcement restore`"
    else:
        yield "ok", "enforcement.devices is off", ""


def _is_enforced(path: Path) -> bool:
    try:
        return read_access(path).is_enforced
    except OSError:
        return False


def _of_file(path: Path) -> Finding:
    try:
        found = read_access(path)
    except OSError as error:
        return "fail", f"{path}: {error.strerror}", REMEDIES.get(error.errno or 0, "look at the file")
    if found.is_enforced:
        return "ok", f"{path} can be opened only by the users and groups in its ACL", ""
    what = "all users" if found.is_open_to_all else f"everybody that its mode {found.mode:04o} allows"
    remedy = "start the service; if its GPU is not managed, this is correct (`canhazgpu admin init`)"
    return "warn", f"{path} can be opened by {what}", remedy


def _unknown_names(settings: Settings) -> Iterator[Finding]:
    """Find names that nobody has. Those of the default need not exist."""
    users = {*settings.enforcement.users} - {*Settings().enforcement.users}
    for kind, names, look_up in (
        ("user", sorted(users), pwd.getpwnam),
        ("group", settings.enforcement.groups, grp.getgrnam),
    ):
        for name in names:
            try:
                look_up(name)
            except KeyError:
                yield "warn", f"enforcement.{kind}s: there is no {kind} {name}", "correct it, then restart"


def _of_driver(path: Path) -> Finding:
    try:
        said = dict(PARAMETER.findall(path.read_text(errors="replace")))
    except OSError as error:
        return "skip", f"{path} cannot be read: {error.strerror}", "load the driver"
    if "ModifyDeviceFiles" not in said:
        return "warn", f"{path} does not say whether the driver's programs change device files", KEEP_MODES
    if said["ModifyDeviceFiles"] == "0":
        return "ok", "the driver's programs leave the device files as they are", ""
    if (said.get("DeviceFileMode"), said.get("DeviceFileUID")) == (str(KEEPING), "0"):
        return "ok", "the driver's programs give the device files mode 0660, which keeps the ACLs", ""
    found = "the driver's programs open the device files until the next scan (ModifyDeviceFiles is 1)"
    return "warn", found, KEEP_MODES
