"""HTTP/1.1 over a Unix socket, as far as the service speaks it: one request on a connection, no proxies.

http.client would need most of the time in which a command starts, because it imports `email` and `ssl`.
"""

import socket
import time
from collections.abc import Iterator

LONGEST_LINE = 65536
MOST_HEADERS = 100
NO_HTTP, CUT = "the answer is not HTTP", "the answer is incomplete"
TURN = 0.05  # Seconds between two attempts to connect to a service whose backlog is full.


class BrokenAnswer(Exception):
    """The answer is not HTTP or ends too early; the message says which."""


class Answer:
    """The answer to a request: its `status`, and its `headers` by name in lower case."""

    def __init__(self, link: socket.socket) -> None:
        """Read the head. Raises BrokenAnswer and OSError."""
        self._file = link.makefile("rb")
        try:
            self.status, self.headers = self._head()
        except BaseException:
            self._file.close()
            raise

    def _head(self) -> tuple[int, dict[str, str]]:
        protocol, _, rest = self._line().partition(b" ")
        status = rest[:3]
        if not protocol.startswith(b"HTTP/1.") or not status.isdigit():
            raise BrokenAnswer(NO_HTTP)
        headers: dict[str, str] = {}
        for line in iter(self._line, b""):
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon or len(headers) == MOST_HEADERS:
                raise BrokenAnswer(NO_HTTP)
            headers[name.strip().lower()] = value.strip()
        return int(status), headers

    def read(self) -> bytes:
        """Return the whole body. Raises BrokenAnswer and OSError."""
        return b"".join(self._parts())

    def __iter__(self) -> Iterator[bytes]:
        """Yield the lines of the body as they arrive. Raises BrokenAnswer and OSError."""
        kept = b""
        for part in self._parts():
            *lines, kept = (kept + part).split(b"\n")
            yield from lines
        if kept:
            yield kept

    def close(self) -> None:
        """Release the connection's file."""
        self._file.close()

    def _parts(self) -> Iterator[bytes]:
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            yield from self._chunks()
        elif "content-length" in self.headers:
            yield self._exactly(_number(self.headers["content-length"], 10))
        else:
            yield self._file.read()

    def _chunks(self) -> Iterator[bytes]:
        while size := _number(self._line().partition(b";")[0].decode("latin-1"), 16):
            yield self._exactly(size)
            if self._line():
                raise BrokenAnswer(NO_HTTP)
        while self._line():  # Fields behind the last chunk.
            pass

    def _line(self) -> bytes:
        line = self._file.readline(LONGEST_LINE)
        if not line.endswith(b"\n"):
            raise BrokenAnswer(NO_HTTP if len(line) == LONGEST_LINE else CUT)
        return line.rstrip(b"\r\n")

    def _exactly(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise BrokenAnswer(CUT)
        return data


def _number(text: str, base: int) -> int:
    try:
        number = int(text.strip(), base)
    except ValueError:
        raise BrokenAnswer(NO_HTTP) from None
    if number < 0:
        raise BrokenAnswer(NO_HTTP)
    return number


def connect(path: str, timeout: float | None, patience: float) -> socket.socket:
    """Return a connection to a Unix socket; wait `patience` seconds where its backlog is full.

    `timeout`: seconds for each read and write. Raises OSError.
    """
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        link.settimeout(timeout)
        began = time.monotonic()
        while True:
            try:
                link.connect(path)
            except BlockingIOError:
                if time.monotonic() - began > patience:
                    raise
                time.sleep(TURN)
            else:
                return link
    except BaseException:
        link.close()
        raise


def send(link: socket.socket, method: str, target: str, body: bytes | None) -> None:
    """Send a request; a body is JSON. Raises OSError, and ValueError if HTTP does not allow the target."""
    if not target.isascii() or not target.isprintable() or " " in target:
        raise ValueError(f"{target!r:.100} cannot be the target of a request")
    head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: identity\r\n"
    if body is not None:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    link.sendall(f"{head}\r\n".encode() + (body or b""))
