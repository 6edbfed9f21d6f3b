"""The file that remembers the permissions of device files from before the service changed them."""

import contextlib
import os
from pathlib import Path

import msgspec

from canhazgpu.service.enforcement.access import Access, read_access
from canhazgpu.service.storage.machine_id import boot_id

FILE, SUSPENDED = "device-files.json", "device-files.suspended"
DRIVERS_OWN = Access(uid=0, mode=0o666)  # What the driver gives its files by default.


class Former(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered: by path, the former permissions; by UUID, the number N of /dev/nvidiaN."""

    boot: str = ""
    files: dict[str, Access] = {}
    minors: dict[str, int] = {}


class FormerAccess:
    """The file in the state directory. It is on the disk before the first change of a device file."""

    def __init__(self, state_dir: Path) -> None:
        """Read the file. A damaged one counts as empty: closed files were then the driver's."""
        self.path = state_dir / FILE
        self._suspended = state_dir / SUSPENDED
        self._content = self._read()

    @property
    def files(self) -> dict[str, Access]:
        """The former permissions by path."""
        return self._content.files

    @property
    def minors(self) -> dict[str, int]:
        """The numbers of the device files by UUID, as of the last scan in this boot."""
        return self._content.minors

    @property
    def is_suspended(self) -> bool:
        """Whether `canhazgpu enforcement restore` has opened the files until `resume`."""
        return is_suspended(self.path.parent)

    def suspend(self) -> None:
        """Keep the service from changing device files. Raises OSError."""
        self._suspended.touch(mode=0o600)

    def resume(self) -> bool:
        """Let the service change device files again; return False if it may already. Raises OSError."""
        suspended = self.is_suspended
        self._suspended.unlink(missing_ok=True)
        return suspended

    def remember(self, files: dict[str, Access], minors: dict[str, int]) -> None:
        """Replace what is remembered, on the disk. Raises OSError; the old content is then kept."""
        new = Former(boot=boot_id(), files=files, minors=minors)
        if new == self._content:
            return
        temporary = self.path.with_suffix(".new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
            file.write(msgspec.json.encode(new))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._content = new

    def forget(self) -> None:
        """Remove the file: nothing is to be restored. Raises OSError."""
        self.path.unlink(missing_ok=True)
        self._content = Former()

    def _read(self) -> Former:
        try:
            content = msgspec.json.decode(self.path.read_bytes(), type=Former)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return Former()
        return content if content.boot == boot_id() else Former(files=_still_enforced(content.files))


def is_suspended(state_dir: Path) -> bool:
    """Return whether `canhazgpu enforcement restore` has opened the files until `resume`."""
    return os.path.lexists(state_dir / SUSPENDED)


def former_of(found: Access) -> Access:
    """Return the permissions to remember for a file that is found like this."""
    return DRIVERS_OWN if found.is_enforced else found


def _still_enforced(files: dict[str, Access]) -> dict[str, Access]:
    """Return what still counts after a boot: the driver has made the other files anew."""
    kept = {}
    for path, former in files.items():
        with contextlib.suppress(OSError):
            if read_access(Path(path)).is_enforced:
                kept[path] = former
    return kept
