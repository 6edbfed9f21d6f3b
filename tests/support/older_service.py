"""A service of the last version before MIG instances: a relay that leaves out what that version lacked."""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, cast

from canhazgpu.client import Client

NEW_FIELDS = ("number", "parent", "profile", "instances", "chosen_vendor")


def as_before(answer: Any) -> Any:
    """Return an answer without the rows of MIG instances, and without the fields that came with them."""
    if isinstance(answer, list):
        return [as_before(one) for one in answer if not _is_instance(one)]
    if answer == "PARTITIONED":
        return "AVAILABLE"
    if isinstance(answer, dict):
        return {name: as_before(one) for name, one in answer.items() if name not in NEW_FIELDS}
    return answer


def _is_instance(row: Any) -> bool:
    return isinstance(row, dict) and row.get("parent") is not None


@contextmanager
def older_service(socket: Path, place: Path) -> Iterator[None]:
    """Serve at `place` what the service at `socket` answers to GET."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(as_before(Client(str(socket)).get(self.path))).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return "unix"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the library
            """Write no log."""

    server = socketserver.ThreadingUnixStreamServer(str(place), cast("Any", Handler))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
