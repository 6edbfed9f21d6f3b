"""Gives the device files back to everybody: enforcement was switched off, or an administrator asks for it."""

from pathlib import Path

import structlog

from canhazgpu.config.settings import Settings
from canhazgpu.service.enforcement.access import read_access, write_access
from canhazgpu.service.enforcement.device_files import DeviceFiles
from canhazgpu.service.enforcement.former_access import DRIVERS_OWN, FormerAccess

Failed = list[tuple[str, OSError]]


def device_files(directory: Path) -> list[Path]:
    """Return the device files of GPUs, by number. Raises OSError."""
    numbers = [path.name.removeprefix("nvidia") for path in directory.iterdir() if path.name[:6] == "nvidia"]
    return [directory / f"nvidia{number}" for number in sorted(map(int, filter(str.isdecimal, numbers)))]


def restore(settings: Settings, *, suspend: bool = False) -> tuple[list[str], Failed]:
    """Give the device files their former permissions, also those of which no former ones are known.

    If `suspend`, a running service leaves them so until `resume`. Return the files that were changed, here or
    by that service at the same time, and those that could not be, with the reason. Raises OSError.
    """
    former, directory = FormerAccess(Path(settings.state_dir)), Path(settings.enforcement.directory)
    if suspend:
        former.suspend()
    given = list(former.files)
    failed = DeviceFiles(directory, former).restore()
    for path in device_files(directory) if directory.is_dir() else ():
        if str(path) in given:
            continue
        try:
            if read_access(path).is_enforced:
                write_access(path, DRIVERS_OWN)
                given.append(str(path))
        except OSError as error:
            failed.append((str(path), error))
    return [path for path in given if path not in dict(failed)], failed


def give_back(settings: Settings) -> None:
    """Give the device files their former permissions at the start of a service without enforcement."""
    given, failed = restore(settings)
    for path, error in failed:
        structlog.get_logger().warning("not_restored", path=path, reason=error.strerror)
    if not failed:
        FormerAccess(Path(settings.state_dir)).resume()
    structlog.get_logger().info("enforcement_switched_off", paths=given)
