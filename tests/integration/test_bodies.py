"""Requests are validated: invalid input is an error of the caller on every route."""

import http.client
import json
import socket
from contextlib import closing
from typing import Any
from urllib.parse import quote

import pytest
from support.daemon import Daemon

from canhazgpu.service.routes.operations import OPERATIONS

POSTS = sorted(
    one.path.replace("{silence}", "s1-1").replace("{letter}", "1-1")
    for one in OPERATIONS
    if one.method == "post"
)
NO_TEXT = [b'{"operation":"\xff"}', b'{"\xff":1}', b'{"operation":"\xed\xa0\x80"}', b"\xff\xfe"]


class Connection(http.client.HTTPConnection):
    """HTTP to the service's socket."""

    def __init__(self, host: Daemon) -> None:
        super().__init__("localhost", timeout=60)
        self._path = str(host.folder / "s")

    def connect(self) -> None:
        """Connect to the socket, for any host name."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def asked(host: Daemon, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
    """Return the status and the content of the response."""
    with closing(Connection(host)) as connection:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def test_a_body_that_is_no_text(host: Daemon) -> None:
    """Invalid UTF-8 anywhere in a body gets 400 on every route that reads one."""
    assert "/v1/reservations" in POSTS
    for path in POSTS:
        if "/replay" in path:  # It reads none.
            continue
        for body in NO_TEXT:
            status, problem = asked(host, "POST", path, body)
            assert (status, problem["type"]) == (400, "urn:canhazgpu:problem:bad-request"), (path, body)
    assert "Traceback" not in host.log.read_text()
    assert "request_broke" not in host.log.read_text()


@pytest.mark.parametrize("digits", ["\u0661", "1-\u0661", "\uff11"])
def test_digits_of_other_scripts(host: Daemon, digits: str) -> None:
    """Digits that are not ASCII are not accepted in a stream id or the id of a dead letter."""
    assert asked(host, "GET", f"/v1/events?after={quote(digits)}")[0] == 400
    assert asked(host, "POST", f"/v1/deadletters/{quote(digits)}/replay", b"{}")[0] == 404
    assert "request_broke" not in host.log.read_text()
