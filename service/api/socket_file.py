"""The socket file of the service. It is created again if somebody deletes it."""

import contextlib
import os
import socket
import struct
from pathlib import Path
from stat import S_ISSOCK

import structlog

from canhazgpu.service.lock import AlreadyRunning, Lock

MODE = 0o666
BACKLOG = 256
LONGEST = 107  # Maximum length of a Unix socket's path in bytes.
PATIENCE = 1.0  # Seconds for another listener to accept a connection.


class SocketFile:
    """A bound socket and its lock. The socket of another service is never replaced or removed."""

    def __init__(self, path: Path) -> None:
        """Take the lock and bind the socket. Raises AlreadyRunning and OSError."""
        self._path = path
        self._lock = Lock(Path(f"{path}.lock"))
        try:
            self.listener = self._bound(listen=False)
        except BaseException:
            self._lock.release()
            raise
        self._trouble = ""  # What was logged last.

    def renewed(self) -> socket.socket | None:
        """Return a new listener if the file or its lock was deleted, else None.

        The old one stays open. If the file cannot be created now, this is logged once and retried by the next
        call.
        """
        try:
            if self._lock.lost():
                self._lock.renew()
            if self._is_ours():
                self._trouble = ""
                return None
            self.listener = self._bound(listen=True)
        except (AlreadyRunning, OSError) as error:
            if self._trouble != str(error):
                self._trouble = str(error)
                structlog.get_logger().error("socket_lost", socket=str(self._path), reason=str(error))
            return None
        self._trouble = ""
        structlog.get_logger().warning("socket_bound_anew", socket=str(self._path))
        return self.listener

    def remove(self) -> None:
        """Remove the file if it still belongs to this service, and release the lock."""
        if self._is_ours():
            self._path.unlink(missing_ok=True)
        self._lock.release()

    def _is_ours(self) -> bool:
        try:
            return os.path.samestat(self._path.lstat(), self._place)
        except OSError:
            return False

    def _bound(self, *, listen: bool) -> socket.socket:
        """Bind under a temporary name and rename it, so that the socket is always usable by others."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        _refuse_another(self._path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        address = f"{self._path}.new"
        if len(os.fsencode(address)) > LONGEST:
            address = f"/proc/self/fd/{folder}/.{os.getpid()}"
        new = Path(address).name
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new, dir_fd=folder)
            listener.bind(address)
            os.chmod(new, MODE, dir_fd=folder)
            if listen:
                listener.listen(BACKLOG)
            self._place = os.stat(new, dir_fd=folder, follow_symlinks=False)
            os.rename(new, self._path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            listener.close()
            raise
        finally:
            os.close(folder)
        listener.settimeout(0)
        return listener


def _refuse_another(path: Path) -> None:
    """Raise AlreadyRunning if a process listens at `path`, and OSError if it is not a socket."""
    try:
        if not S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(17, "the path exists and is not a socket", str(path))
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(PATIENCE)
        try:
            link.connect(str(path))
        except BlockingIOError:  # So many wait there that no more fit.
            raise AlreadyRunning(f"another canhazgpu service answers on {path}") from None
        except OSError:
            return
        (pid,) = struct.unpack_from("i", link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    raise AlreadyRunning(f"another canhazgpu service (PID {pid}) answers on {path}")
