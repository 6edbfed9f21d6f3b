"""One daemon a host: a lock the kernel holds for as long as the process lives."""

import fcntl
import os
from pathlib import Path


class AlreadyRunning(Exception):
    """Another daemon serves here; the message says which."""


class Lock:
    """An exclusive lock on a file, with the holder's process id in it."""

    def __init__(self, path: Path) -> None:
        """Take it. Raises AlreadyRunning, or OSError when the file cannot be made."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._file, 20, 0).decode("ascii", "replace").strip() or "?"
            os.close(self._file)
            raise AlreadyRunning(f"another canhazgpu service (PID {holder}) holds {path}") from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let go of it; the file stays, for the next one."""
        os.close(self._file)
