"""Ensures that only one daemon runs per host, with locks that the kernel holds while the process lives.

A lock is a locked file and, because files can be deleted, an abstract socket whose name comes from the path.
"""

import errno
import fcntl
import hashlib
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

FOLDER_MODE = 0o711
BACKLOG = 128
TRIES = 3  # To bind a name whose holder does not answer: it may just have ended.


class AlreadyRunning(Exception):
    """Another daemon is running; the message says which one."""


class Lock:
    """An exclusive lock on a folder, or on a file that contains the holder's pid.

    A folder is locked directly, so no file in it is needed, and systemd-tmpfiles does not clean a locked
    folder. A lock file can be deleted; `lost` detects this, and `renew` locks the current file. Until then
    the name of the abstract socket keeps others out. The file alone counts between network namespaces.
    """

    def __init__(self, path: Path) -> None:
        """Take the lock. Raises AlreadyRunning, or OSError if the file cannot be created."""
        self.path = path
        self._file = _taken(path)
        try:
            self._name = _named(path)
        except BaseException:
            os.close(self._file)
            raise

    def descriptors(self) -> tuple[int, ...]:
        """Return the descriptors of the lock; a process that inherits them holds the lock too."""
        return (self._file, self._name.fileno()) if self._name else (self._file,)

    def lost(self) -> bool:
        """Whether the file at the path is no longer the locked one."""
        self._hang_up()
        return not _is(self._file, self.path)

    def renew(self) -> None:
        """Lock the current file. Raises AlreadyRunning and OSError; in this case the old lock is kept."""
        new = _taken(self.path)
        os.close(self._file)
        self._file = new

    def release(self) -> None:
        """Release the lock; the file remains."""
        os.close(self._file)
        if self._name:
            self._name.close()

    def _hang_up(self) -> None:
        """Close the connections of processes that asked for the holder, so that others can ask."""
        try:
            while self._name:
                self._name.accept()[0].close()
        except OSError:
            return


async def keep_locked(lock: Lock, pause: Callable[[], Awaitable[None]]) -> None:
    """Keep a lock: after each pause create its folder again if it was deleted, and lock the current file."""
    trouble = ""
    while True:
        await pause()
        try:
            if lock.lost():
                event = "folder_replaced" if lock.path.exists() else "folder_made_anew"
                lock.path.mkdir(parents=True, exist_ok=True, mode=FOLDER_MODE)
                lock.renew()
                structlog.get_logger().warning(event, path=str(lock.path))
            trouble = ""
        except (AlreadyRunning, OSError) as error:
            if trouble != str(error):
                trouble = str(error)
                structlog.get_logger().error("folder_lost", path=str(lock.path), reason=trouble)


def _taken(path: Path) -> int:
    while True:
        file = _open(path)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is(
                file, path
            ):  # Else it was deleted before it was locked, and somebody may hold its successor.
                if not path.is_dir():
                    os.ftruncate(file, 0)
                    os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
                return file
        except BlockingIOError:
            holder = _holder(file)
            os.close(file)
            raise AlreadyRunning(f"another canhazgpu service (PID {holder}) holds {path}") from None
        except OSError:
            os.close(file)
            raise
        os.close(file)


def _named(path: Path) -> socket.socket | None:
    """Bind the abstract name of a path. Raises AlreadyRunning.

    Return None if another user holds it, because other users must not be able to keep the service from
    starting.
    """
    address = b"\0canhazgpu/" + hashlib.sha256(os.fsencode(path.resolve())).hexdigest().encode()
    for _ in range(TRIES):
        name = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            name.bind(address)
            name.listen(BACKLOG)
        except OSError as error:
            name.close()
            if error.errno != errno.EADDRINUSE:
                return None
        else:
            return name
        pid = _ask_holder(address, path)
        if pid:
            raise AlreadyRunning(f"another canhazgpu service (PID {pid}) holds {path}")
    return None


def _ask_holder(address: bytes, path: Path) -> int | None:
    """Return the pid of the holder of the name.

    None for another user, or if its path is on another file system.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as link:
        try:
            link.connect(address)
        except OSError:
            return None
        pid, uid, _ = struct.unpack("iII", link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if uid not in (0, os.geteuid()) or not pid:
        return None
    root = Path("/proc", str(pid), "root")
    folder = path.resolve().parent
    try:
        # A service in a container may share the network, and have another folder at the same path.
        return int(pid) if os.path.samestat(folder.stat(), (root / folder.relative_to("/")).stat()) else None
    except OSError:
        return int(pid)


def _open(path: Path) -> int:
    if path.is_dir():
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)


def _is(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except OSError:
        return False


def _holder(file: int) -> str:
    """Return the pid of the lock's holder, from /proc/locks."""
    there = os.fstat(file)
    name = f"{os.major(there.st_dev):02x}:{os.minor(there.st_dev):02x}:{there.st_ino}"
    try:
        rows = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    except OSError:
        rows = []
    return next((row[4] for row in rows if row[1:2] == ["FLOCK"] and name in row), "?")
