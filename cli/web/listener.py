"""The socket on which the page is served: an address and a port, or a file for a proxy on this host."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from canhazgpu.cli.exit_codes import REFUSED, USAGE
from canhazgpu.cli.output import fail

if TYPE_CHECKING:
    from collections.abc import Iterator

UNIX = "unix:"
MOST_PORTS = 65535
BACKLOG = 512
LONGEST = 107  # Bytes of the path of a socket file.
UMASK = 0o111  # The file has mode 0666, as that of the service: the directory decides who can connect.
EXAMPLES = "127.0.0.1:8036 or unix:/run/canhazgpu-web/web.sock"


@contextlib.contextmanager
def listening(address: str, name: str) -> Iterator[socket.socket]:
    """Listen on HOST:PORT or unix:PATH, which `name` gives, or exit. The file is removed in the end."""
    path = address.removeprefix(UNIX)
    if path == address:
        with _bound(address, name) as listener:
            yield listener
        return
    if not path.startswith("/") or len(os.fsencode(path)) > LONGEST:
        fail(f"{name}: '{address:.120}' is not {UNIX} and an absolute path of at most {LONGEST} bytes", USAGE)
    try:
        listener, ours = _bound_file(Path(path))
    except OSError as error:
        fail(f"cannot listen on {path}: {error.strerror}; choose another path", REFUSED)
    try:
        with listener:
            yield listener
    finally:
        with contextlib.suppress(OSError):
            if os.path.samestat(Path(path).lstat(), ours):
                Path(path).unlink()


def place_of(listener: socket.socket) -> str:
    """Return where browsers or a proxy find the page."""
    where = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return f"{UNIX}{where}"
    host, port = where[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def _bound(address: str, name: str) -> socket.socket:
    """Return a socket that listens on HOST:PORT, or exit."""
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > MOST_PORTS:
        fail(f"{name}: '{address:.80}' is not an address such as {EXAMPLES}", USAGE)
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        family, _, _, _, where = found[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(BACKLOG)
    except OSError as error:
        fail(f"cannot listen on {address:.80}: {error.strerror}; choose another port", REFUSED)
    except UnicodeError:  # A part of the name is empty, or has more than 63 characters.
        fail(f"{name}: '{address:.80}' is not an address such as {EXAMPLES}", USAGE)
    return listener


def _bound_file(path: Path) -> tuple[socket.socket, os.stat_result]:
    """Return a socket that listens, and its file, which replaces one that nobody serves. Raises OSError."""
    _refuse_another(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(UMASK)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        listener.listen(BACKLOG)
        return listener, path.lstat()
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(before)


def _refuse_another(path: Path) -> None:
    """Raise OSError if a process listens at a path, or if it is not a socket."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(17, "it exists and is not a socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(0)
        try:
            link.connect(str(path))
        except ConnectionRefusedError:
            return
        except BlockingIOError:  # So many wait there that no more fit.
            pass
    raise OSError(98, "another process serves it")
