"""A socket that answers like Docker's, or misbehaves."""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Answer = Callable[[socket.socket], None]


class DockerSocket:
    """Serves `answers` by path; other paths get a 404."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.answers: dict[str, Answer] = {}
        self.requests: list[str] = []
        self.stopping = threading.Event()  # What hangs ends with it.
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def have(self, container: str, name: str = "train", **config: Any) -> None:
        """Have a container with this configuration; its image is `image`."""
        body = {"Name": f"/{name}", "Image": "sha256:1", "Config": config}
        self.answers[f"/containers/{container}/json"] = sending(answer(200, body))

    def image(self, **config: Any) -> None:
        """Say what the image of all of them has by itself."""
        self.answers["/images/sha256:1/json"] = sending(answer(200, {"Config": config}))

    def close(self) -> None:
        """Stop."""
        self.stopping.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                link, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._answer, args=(link,)))
                self._threads[-1].start()

    def _answer(self, link: socket.socket) -> None:
        with link, contextlib.suppress(OSError):
            target = link.recv(65536).split(b" ")[1].decode()
            self.requests.append(target)
            self.answers.get(target, sending(answer(404, {"message": "no such thing"})))(link)


def answer(status: int, body: Any) -> bytes:
    """Return a complete response."""
    return f"HTTP/1.0 {status} Words\r\nServer: Docker\r\n\r\n{json.dumps(body)}".encode()


def sending(text: bytes) -> Answer:
    """Answer with this."""

    def send(link: socket.socket) -> None:
        link.sendall(text)

    return send


@contextmanager
def docker_socket(path: Path) -> Iterator[DockerSocket]:
    """Serve until the block ends."""
    made = DockerSocket(path)
    try:
        yield made
    finally:
        made.close()
