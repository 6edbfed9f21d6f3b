"""`canhazgpu enforcement`: who can open the GPUs' device files, and how to open them to everybody."""

import grp
import os
import pwd
import sys
from pathlib import Path
from typing import Any

import typer

from canhazgpu.cli.arguments import AsJson
from canhazgpu.cli.exit_codes import REFUSED, USAGE
from canhazgpu.cli.output import examples, fail, print_json, table
from canhazgpu.events.sanitize import printable

app = typer.Typer(
    help="Show who can open the GPUs' device files, and open them to all users.",
    no_args_is_help=False,
    epilog=examples("canhazgpu enforcement status", "canhazgpu enforcement restore"),
    rich_markup_mode=None,
)
AGAIN = "`canhazgpu enforcement resume` closes them again."
ROOTS = "run this as root"


@app.command("status", epilog=examples("canhazgpu enforcement status", "canhazgpu enforcement status --json"))
def status(*, as_json: AsJson = False) -> None:
    """Show who can open the device file of each GPU.

    It reads the permissions of the files, so it works without the service.
    """
    from canhazgpu.service.enforcement.access import GROUP, USER, read_access  # noqa: PLC0415 - heavy
    from canhazgpu.service.enforcement.former_access import is_suspended  # noqa: PLC0415
    from canhazgpu.service.enforcement.restoration import device_files  # noqa: PLC0415

    settings = _settings()
    rows: list[dict[str, Any]] = []
    directory = Path(settings.enforcement.directory)
    for path in device_files(directory) if directory.is_dir() else ():
        try:
            found = read_access(path)
        except OSError as error:
            fail(f"{path}: {error.strerror}", REFUSED)
        row = {
            "file": str(path),
            "open_to": "all" if found.is_open_to_all else "named" if found.is_enforced else "others",
            "users": [_user(uid) for uid in found.named(USER)],
            "groups": [_group(gid) for gid in found.named(GROUP)],
            "mode": f"{found.mode:04o}",
        }
        rows.append(row)
    suspended = is_suspended(Path(settings.state_dir))
    if as_json:
        print_json({"enforced": settings.enforcement.devices, "suspended": suspended, "files": rows})
        return
    state = "on" if settings.enforcement.devices else "off"
    sys.stdout.write(f"enforcement.devices is {state}{f', but suspended: {AGAIN}' if suspended else '.'}\n")
    if rows:
        cells = [(row["file"], _shown(row)) for row in rows]
        sys.stdout.write(table(("FILE", "CAN BE OPENED BY"), cells) + "\n")
    else:
        sys.stdout.write(f"There is no GPU device file in {printable(str(directory), 300)}.\n")


def _shown(row: dict[str, Any]) -> str:
    if row["open_to"] == "all":
        return "all users"
    if row["open_to"] == "others":
        return f"everybody that its mode {row['mode']} allows; not enforced"
    named = ["root", *row["users"], *(f"group {name}" for name in row["groups"])]
    return printable(", ".join(named), 300)


@app.command("restore", epilog=examples("canhazgpu enforcement restore"))
def restore(*, as_json: AsJson = False) -> None:
    """Give the device files their former permissions (root only).

    A running service leaves them open, even after a restart, until `resume`. To end enforcement for good, set
    `enforcement.devices = false` and restart the service.
    """
    from canhazgpu.service.enforcement import restoration  # noqa: PLC0415 - heavy

    settings = _as_root()
    try:
        suspend = settings.enforcement.devices and Path(settings.state_dir).is_dir()
        given, failed = restoration.restore(settings, suspend=suspend)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}", REFUSED)
    if failed:
        path, reason = failed[0]
        fail(f"{len(failed)} files could not be changed; the first, {path}: {reason.strerror}", REFUSED)
    if as_json:
        print_json({"restored": given, "suspended": settings.enforcement.devices})
        return
    for path in given:
        sys.stdout.write(f"{printable(path, 300)} has its former permissions\n")
    if not given:
        sys.stdout.write("No device file has been changed.\n")
    if settings.enforcement.devices:
        sys.stdout.write(AGAIN + "\n")


@app.command("resume", epilog=examples("canhazgpu enforcement resume"))
def resume(*, as_json: AsJson = False) -> None:
    """Let the service close the device files again, at its next scan (root only)."""
    from canhazgpu.service.enforcement.former_access import FormerAccess  # noqa: PLC0415 - heavy

    settings = _as_root()
    try:
        resumed = FormerAccess(Path(settings.state_dir)).resume()
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}", REFUSED)
    if as_json:
        print_json({"resumed": resumed})
        return
    said = "The service closes them at its next scan." if resumed else "Enforcement is not suspended."
    if not settings.enforcement.devices:
        said = "enforcement.devices is off: set it to true, and restart the service."
    sys.stdout.write(said + "\n")


def _as_root() -> Any:
    settings = _settings()
    if os.geteuid() != 0:
        fail(f"only root can change the permissions of device files: {ROOTS}", REFUSED)
    return settings


def _settings() -> Any:
    from canhazgpu.config.load import ConfigError, load  # noqa: PLC0415 - heavy

    try:
        return load().settings
    except ConfigError as error:
        fail(str(error), USAGE)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
