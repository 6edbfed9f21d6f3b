"""A TCP proxy that can lose its connections, or swallow everything without a word."""

import socket
import threading
from contextlib import suppress

from support.ports import free_port

CHUNK = 65536


class DroppingProxy:
    """Passes connections on to a port of this machine, until it is told not to."""

    def __init__(self, target: int) -> None:
        """Listen on a port of its own."""
        self._target, self.port = target, free_port()
        self._passing = threading.Event()
        self._passing.set()
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End every connection in the middle of whatever it does."""
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for one in sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def swallow(self) -> None:
        """Accept connections and bytes, and pass nothing on."""
        self._passing.clear()

    def heal(self) -> None:
        """Pass on again, also what was swallowed."""
        self._passing.set()

    def close(self) -> None:
        """End it."""
        self._listener.close()
        self.heal()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._target), 5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            with self._lock:
                self._sockets |= {near, far}
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK):
                self._passing.wait()
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._sockets.discard(source)
        source.close()
