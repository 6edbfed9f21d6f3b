"""HTTP/1.1 over a Unix socket, as far as the service speaks it: one request on a connection, no proxies.

http.client would need most of the time in which a command starts, because it imports `email` and `ssl`; even
`socket` imports `selectors` and `enum`, for names that nothing here uses.
"""

from __future__ import annotations

import time
from _socket import AF_UNIX, MSG_PEEK, SHUT_RD, SOCK_STREAM, socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_LINE = 65536
MOST_HEADERS = 100
PIECE = 65536
NO_HTTP, CUT = "the answer is not HTTP", "the answer is incomplete"
TURN = 0.05  # Seconds between two attempts to connect to a service whose backlog is full.


class BrokenAnswer(Exception):
    """The answer is not HTTP or ends too early; the message says which."""


class Answer:
    """The answer to a request: its `status`, and its `headers` by name in lower case."""

    def __init__(self, link: socket) -> None:
        """Read the head. Raises BrokenAnswer and OSError."""
        self._link, self._data = link, b""
        self.status, self.headers = self._head()

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

    def _parts(self) -> Iterator[bytes]:
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            yield from self._chunks()
        elif "content-length" in self.headers:
            yield self._exactly(_number(self.headers["content-length"], 10))
        else:
            yield self._data
            yield from iter(lambda: self._link.recv(PIECE), b"")

    def _chunks(self) -> Iterator[bytes]:
        while size := _number(self._line().partition(b";")[0].decode("latin-1"), 16):
            yield self._exactly(size)
            if self._line():
                raise BrokenAnswer(NO_HTTP)
        while self._line():  # Fields behind the last chunk.
            pass

    def _line(self) -> bytes:
        while (end := self._data.find(b"\n", 0, LONGEST_LINE)) < 0:
            piece = b"" if len(self._data) >= LONGEST_LINE else self._link.recv(PIECE)
            if not piece:
                raise BrokenAnswer(NO_HTTP if len(self._data) >= LONGEST_LINE else CUT)
            self._data += piece
        line, self._data = self._data[:end], self._data[end + 1 :]
        return line.rstrip(b"\r")

    def _exactly(self, size: int) -> bytes:
        pieces, missing = [self._data], size - len(self._data)
        while missing > 0:
            piece = self._link.recv(PIECE)
            if not piece:
                raise BrokenAnswer(CUT)
            pieces.append(piece)
            missing -= len(piece)
        data = b"".join(pieces)
        self._data = data[size:]
        return data[:size]


def _number(text: str, base: int) -> int:
    try:
        number = int(text.strip(), base)
    except ValueError:
        raise BrokenAnswer(NO_HTTP) from None
    if number < 0:
        raise BrokenAnswer(NO_HTTP)
    return number


def connect(path: str, timeout: float | None, patience: float) -> socket:
    """Return a connection to a Unix socket; wait `patience` seconds where its backlog is full.

    `timeout`: seconds for each read and write. Raises OSError.
    """
    link = socket(AF_UNIX, SOCK_STREAM)
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


def is_readable(link: socket, seconds: float) -> bool:
    """Return whether there is something to read, or the end, within `seconds`. Raises OSError."""
    timeout = link.gettimeout()
    link.settimeout(seconds)
    try:
        link.recv(1, MSG_PEEK)
    except (TimeoutError, BlockingIOError):  # The second if there is no time left.
        return False
    finally:
        link.settimeout(timeout)
    return True


def shut(link: socket) -> None:
    """Break a connection; a thread that reads from it gets what has arrived, and then the end.

    The other side is not told that this one has ended, but cannot write: it knows what was not delivered.
    """
    try:  # noqa: SIM105 - contextlib would cost the command line its speed
        link.shutdown(SHUT_RD)
    except OSError:  # It is closed, or the other side has gone.
        pass


def send(link: socket, method: str, target: str, body: bytes | None) -> None:
    """Send a request; a body is JSON. Raises OSError, and ValueError if HTTP does not allow the target."""
    if not target.isascii() or not target.isprintable() or " " in target:
        raise ValueError(f"{target!r:.100} cannot be the target of a request")
    head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: identity\r\n"
    if body is not None:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    link.sendall(f"{head}\r\n".encode() + (body or b""))
