"""HTTP to the service over its Unix socket."""

import http.client
import json
import os
import socket
from collections.abc import Iterator
from typing import Any

from canhazgpu.events.paths import CONFIG, SOCKET

ANSWER_TIME = 60.0


class BadSettings(Exception):
    """The settings file that was named is of no use; the message says which it is, and what is wrong."""


class Unreachable(Exception):
    """The service does not answer; the message says which socket, and how to start it."""


class Refused(Exception):
    """The service answered no. `kind` is stable; the message is for people."""

    def __init__(self, status: int, kind: str, detail: str, remedy: str) -> None:
        """Take the problem apart."""
        super().__init__(f"{detail} ({remedy})" if remedy else detail)
        self.status, self.kind, self.detail, self.remedy = status, kind, detail, remedy


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def socket_path() -> str:
    """Return the service's socket: `$CANHAZGPU_SOCKET`, else as in the settings file, else the default.

    The host's file may be one that its users cannot read. One that was named, by a `$CANHAZGPU_CONFIG` that
    is not empty, is meant to count: raises BadSettings when it cannot.
    """
    named = os.environ.get("CANHAZGPU_SOCKET")
    if named:
        return named
    config = os.environ.get("CANHAZGPU_CONFIG")
    try:
        found = read_settings(config or CONFIG).get("socket", SOCKET)
    except BadSettings:
        if config:
            raise
        return SOCKET
    if not isinstance(found, str) or not found or "\0" in found:
        raise BadSettings(f"{config or CONFIG}: socket: expected the path of a file, not {found!r:.60}")
    return found


def read_settings(path: str) -> dict[str, Any]:
    """Return what a settings file says, unchecked. Raises BadSettings."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - pathlib would cost the command line its speed
            import tomllib  # noqa: PLC0415 - only when there is a file

            return tomllib.load(file)
    except OSError as error:
        raise BadSettings(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # Also a number or a nesting beyond all measure.
        raise BadSettings(f"{path}: is not TOML: {error}") from error


class Client:
    """Calls to one service. Each is one connection; nothing stays open."""

    def __init__(self, socket: str | None = None) -> None:
        """Talk to `socket`, else to the host's service. Raises BadSettings when a file named it in vain."""
        self.socket = socket or socket_path()

    def status(self, *, fresh: bool = True) -> list[dict[str, Any]]:
        """Return every GPU; `fresh` waits a moment for a scan that begins now."""
        return list(self.get(f"/v1/status?fresh={int(fresh)}"))

    def get(self, path: str) -> Any:
        """Return the answer to a GET, decoded. Raises Unreachable and Refused."""
        return self._call("GET", path, None)

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Return the answer to a POST, decoded. Raises Unreachable and Refused."""
        return self._call("POST", path, body or {})

    def delete(self, path: str) -> Any:
        """Return the answer to a DELETE, decoded. Raises Unreachable and Refused."""
        return self._call("DELETE", path, None)

    def lines(
        self, path: str, body: dict[str, Any] | None = None, *, silence: float | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield the objects of a stream of JSON lines as they come, of a POST where there is a body.

        A stream that is silent for `silence` seconds counts as broken. Raises Unreachable and Refused.
        """
        connection = _Connection(self.socket, silence)
        try:
            answer = self._answer(connection, "GET" if body is None else "POST", path, body)
            for line in answer:
                if line.strip():
                    yield json.loads(line)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()

    def _call(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        connection = _Connection(self.socket, ANSWER_TIME)
        try:
            return json.loads(self._answer(connection, method, path, body).read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()

    def _answer(
        self, connection: _Connection, method: str, path: str, body: dict[str, Any] | None
    ) -> http.client.HTTPResponse:
        text = None if body is None else json.dumps(body)
        connection.request(method, path, text, {"Content-Type": "application/json"} if text else {})
        answer = connection.getresponse()
        if answer.status < 400:  # noqa: PLR2004 - from here on HTTP means no
            return answer
        problem = json.loads(answer.read())
        kind = str(problem.get("type", "")).rpartition(":")[2]
        raise Refused(
            answer.status, kind, str(problem.get("detail", "refused")), str(problem.get("remedy", ""))
        )

    def _unreachable(self, error: Exception) -> Unreachable:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Unreachable(
            f"the service does not answer on {self.socket}: {why};"
            " start it with `canhazgpu serve` (or `systemctl start canhazgpu`)"
        )
