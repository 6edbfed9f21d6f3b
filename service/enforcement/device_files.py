"""Gives device files their permissions, remembers the former ones, and gives those back."""

import contextlib
import errno
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import structlog

from canhazgpu.service.enforcement.access import Access, read_access, write_access
from canhazgpu.service.enforcement.former_access import FormerAccess, former_of

COARSE = 1_000_000_000  # Nanoseconds: two changes within a clock tick of the kernel leave the same time.
REMEDIES = {
    errno.EPERM: "run the service as root, with CAP_FOWNER and CAP_CHOWN if root does not own the file",
    errno.EACCES: "run the service as root",
    errno.EROFS: "run the service with a writable /dev",
    errno.EOPNOTSUPP: "its file system has no ACLs: set enforcement.devices = false",
    errno.ENOENT: "the driver's program nvidia-modprobe creates it",
    errno.ENODEV: "remove it; nvidia-modprobe creates the device file",
    errno.ENOSPC: "free some space in state_dir",
}
GONE = frozenset({errno.ENOENT, errno.ENODEV})
Facts = tuple[int, ...]


class DeviceFiles:
    """The device files of this host. Its callers take care that only one thread uses it at a time.

    A file is changed only after its former permissions are on the disk. A file that cannot be changed is
    left as it is, logged once, and tried again.
    """

    def __init__(self, directory: Path, former: FormerAccess) -> None:
        """Store the parameters; nothing is changed yet."""
        self._directory, self._former = directory, former
        self._left: dict[Path, tuple[Access, Facts | None]] = {}  # What each file was after the last change.
        self._said: dict[int, list[str]] = {}
        self._reset_said: set[Path] = set()

    def path(self, minor: int) -> Path:
        """Return the device file with a number."""
        return self._directory / f"nvidia{minor}"

    def apply(self, wanted: Mapping[int, Access], minors: Mapping[str, int]) -> None:
        """Give exactly these files, by number, the wanted permissions; all others get their former ones."""
        files = {self.path(minor): access for minor, access in sorted(wanted.items())}
        troubles: dict[int, list[str]] = {}
        self._remember(files, dict(minors), troubles)
        for path, access in files.items():
            if str(path) in self._former.files:
                self._try(path, access, troubles)
            else:
                self._left[path] = access, None
        self._give_back([path for path in self._former.files if Path(path) not in files])
        self._say(troubles)

    def differ(self) -> bool:
        """Return whether a file is not as it was left: a look at each, without reading its ACL."""
        return any(facts is None or _facts(path) != facts for path, (_, facts) in list(self._left.items()))

    def restore(self) -> list[tuple[str, OSError]]:
        """Give all files their former permissions; return those that could not be changed, and why."""
        failed = self._give_back(list(self._former.files))
        if not failed:
            with contextlib.suppress(OSError):  # They are given back once more at the next start.
                self._former.forget()
        return failed

    def _remember(
        self, files: Iterable[Path], minors: dict[str, int], troubles: dict[int, list[str]]
    ) -> None:
        new: dict[str, Access] = {}
        for path in files:
            if str(path) not in self._former.files:
                try:
                    new[str(path)] = former_of(read_access(path))
                except OSError as error:
                    troubles.setdefault(error.errno or 0, []).append(str(path))
        if new or minors != self._former.minors:
            try:
                self._former.remember({**self._former.files, **new}, minors)
            except OSError as error:
                troubles.setdefault(error.errno or 0, []).append(str(self._former.path))

    def _try(self, path: Path, access: Access, troubles: dict[int, list[str]]) -> None:
        try:
            self._change(path, access)
        except OSError as error:
            self._left[path] = access, None
            troubles.setdefault(error.errno or 0, []).append(str(path))

    def _change(self, path: Path, access: Access) -> None:
        left, facts = self._left.get(path, (None, None))
        if left == access and facts is not None and facts == _facts(path):
            return
        if read_access(path) != access:
            if left == access and path not in self._reset_said:
                self._reset_said.add(path)
                remedy = "see NVreg_ModifyDeviceFiles in `canhazgpu doctor`"
                structlog.get_logger().warning("device_file_was_reset", path=str(path), remedy=remedy)
            write_access(path, access)
        self._left[path] = access, _facts(path, settled=True)

    def _give_back(self, paths: list[str]) -> list[tuple[str, OSError]]:
        failed = []
        for path in paths:
            try:
                if read_access(Path(path)) != self._former.files[path]:
                    write_access(Path(path), self._former.files[path])
            except OSError as error:
                if error.errno not in GONE:
                    failed.append((path, error))
                    continue
            self._left.pop(Path(path), None)
        given = {*paths} - {path for path, _ in failed}
        if given:
            kept = {path: access for path, access in self._former.files.items() if path not in given}
            with contextlib.suppress(OSError):  # The same.
                self._former.remember(kept, self._former.minors)
        return failed

    def _say(self, troubles: dict[int, list[str]]) -> None:
        for number, paths in troubles.items():
            if self._said.get(number) != paths:
                structlog.get_logger().warning(
                    "enforcement_failed",
                    paths=paths,
                    reason=os.strerror(number),
                    remedy=REMEDIES.get(number, "look at the file"),
                )
        if self._said and not troubles:
            structlog.get_logger().info("enforcement_works_again")
        self._said = troubles


def _facts(path: Path, *, settled: bool = False) -> Facts | None:
    """Return what changes whenever the permissions do. If `settled`, None if a change could go unnoticed."""
    try:
        found = path.lstat()
    except OSError:
        return None
    if settled and time.time_ns() - found.st_ctime_ns < COARSE:
        return None
    return (
        found.st_dev,
        found.st_ino,
        found.st_rdev,
        found.st_mode,
        found.st_uid,
        found.st_gid,
        found.st_ctime_ns,
    )
