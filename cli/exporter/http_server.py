"""HTTP for Prometheus: paths with metrics, and a page that names them. One short request on a connection."""

from __future__ import annotations

import errno
import gzip
import socket
import socketserver
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Any

from prometheus_client.exposition import choose_encoder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prometheus_client import CollectorRegistry

MOST = 16  # Connections at a time; more are closed.
PATIENCE = 10.0  # Seconds for a client that sends or reads nothing.
PAGE = b"""<!doctype html><html lang="en"><title>canhazgpu exporter</title>
<h1>canhazgpu exporter</h1><p><a href="/metrics">Metrics of this host</a>,
<a href="/metrics/fleet">of all hosts of its fleet</a></p></html>
"""
FAST = 1  # The level of gzip.


class MetricsServer(ThreadingHTTPServer):
    """Serves a registry for each path. Each request has a thread of its own, and there are at most MOST."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], registries: Mapping[str, CollectorRegistry]) -> None:
        """Listen. Raises OSError."""
        try:
            found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except UnicodeError as error:  # A part of it is empty, or has more than 63 characters.
            raise OSError(errno.EINVAL, "this cannot be the name of a host") from error
        where: Any = found[0][4]
        self.address_family = found[0][0]
        self.registries = registries
        self._free = BoundedSemaphore(MOST)
        super().__init__(where, _Handler)

    def server_bind(self) -> None:
        """Bind without the name of this host, which the base class would ask the resolver for."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, or close the connection if there are too many."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing if the client has gone; anything else is a fault of ours."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    timeout = PATIENCE
    server: MetricsServer

    def do_GET(self) -> None:
        """Answer a request."""
        path = self.path.partition("?")[0]
        if path == "/":
            self._send(200, "text/html; charset=utf-8", PAGE)
        elif registry := self.server.registries.get(path):
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            self._send(200, content_type, encode(registry))
        else:
            known = " and ".join(self.server.registries)
            self._send(404, "text/plain; charset=utf-8", f"there is only {known}\n".encode())

    def _send(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            body = gzip.compress(body, FAST)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
        """Say nothing: a line for each scrape helps nobody."""
