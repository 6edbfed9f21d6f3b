"""A real HTTP receiver that records requests and can misbehave."""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Request(NamedTuple):
    """A recorded request."""

    path: str
    headers: "Message[str, str]"
    body: bytes


Behaviour = Callable[["Handler"], None]


def answer(status: int, **headers: str) -> Behaviour:
    """Answer with a status."""

    def say(handler: "Handler") -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return say


def silent(handler: "Handler") -> None:
    """Accept the request and never respond."""
    handler.server.over.wait(30)


def drip(handler: "Handler") -> None:
    """Respond one byte at a time, without an end."""
    for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 300:
        handler.wfile.write(bytes([byte]))
        if handler.server.over.wait(0.1):
            return


def close(handler: "Handler") -> None:
    """Close the connection."""
    handler.connection.close()


def endless(handler: "Handler") -> None:
    """Respond with 200 and an endless body."""
    handler.send_response(200)
    handler.end_headers()
    while not handler.server.over.is_set():
        handler.wfile.write(b"x" * 65536)


class Handler(BaseHTTPRequestHandler):
    """Keeps a request, then does as the server is told."""

    protocol_version = "HTTP/1.1"
    server: "Receiver"

    def do_POST(self) -> None:
        """Take a request."""
        self.close_connection = True
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.taken.append(Request(self.path, self.headers, body))
        self.server.behaviour(self)

    do_GET = do_PUT = do_POST  # noqa: N815 - http.server's names; what follows a redirect would come by GET

    def log_message(self, *_args: Any) -> None:
        """Be quiet."""


class Receiver(ThreadingHTTPServer):
    """The server, on a free port; `url` leads to it."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, trust: ssl.SSLContext | None = None) -> None:
        """Bind; with `trust` it speaks TLS."""
        super().__init__(("127.0.0.1", 0), Handler)
        self.taken: list[Request] = []
        self.behaviour: Behaviour = answer(200)
        self.over = threading.Event()
        self.port = int(self.server_address[1])
        self.url = f"http{'s' if trust else ''}://127.0.0.1:{self.port}"
        self._trust = trust

    def get_request(self) -> Any:
        """Accept a connection; its handshake is its own thread's work."""
        connection, address = super().get_request()
        if self._trust is None:
            return connection, address
        wrapped = self._trust.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return wrapped, address

    def handle_error(self, *_args: Any) -> None:
        """Say nothing: a client that hangs up is expected."""


@contextmanager
def receiving(trust: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A receiver that answers 200 until told otherwise."""
    with Receiver(trust) as made:
        threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield made
        finally:
            made.over.set()
            made.shutdown()
