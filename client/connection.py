"""HTTP to the service over its Unix socket. What is only needed in trouble is only then imported."""

from __future__ import annotations

import os

from canhazgpu.client.plain_json import dumps, loads
from canhazgpu.client.unix_http import Answer, BrokenAnswer, connect, is_readable, send, shut
from canhazgpu.events.default_paths import CONFIG, LOG, SOCKET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    MessageCallback = Callable[[str], None]

ANSWER_TIME = 60.0  # Seconds to wait for a service that is running and may be busy.
HALTED_TIME = 10.0  # Seconds to wait for a service that is stopped or frozen.
SAY_AFTER = 2.0
WAITING: list[MessageCallback] = []  # They hear what is waited for when an answer takes long,
WARNED: list[MessageCallback] = []  # and of an answer that it is old, or what was restored.


class BadSettings(Exception):
    """The named settings file is not usable; the message says which file and why."""


class Unreachable(Exception):
    """The service does not answer. The message is the `reason` and the `remedy`."""

    def __init__(self, reason: str, remedy: str = LOG) -> None:
        """Store both parts."""
        super().__init__(f"{reason}; {remedy}")
        self.reason, self.remedy = reason, remedy


class Refused(Exception):
    """The service refused the request. `kind` is stable; the message is for people."""

    def __init__(self, status: int, kind: str, detail: str, remedy: str) -> None:
        """Store the parts of the problem."""
        super().__init__(f"{detail} ({remedy})" if remedy else detail)
        self.status, self.kind, self.detail, self.remedy = status, kind, detail, remedy


def _await_answer(link: socket, path: str, patience: float | None) -> None:
    """Wait for the first byte of an answer. Raises Unreachable with the reason if there is none.

    After SAY_AFTER seconds, the callbacks in WAITING are called. With `patience`, wait only so many seconds.
    """
    if patience is not None:
        if is_readable(link, patience):
            return
        raise Unreachable(f"the service on {path} did not answer within {patience:g} s")
    if is_readable(link, SAY_AFTER):
        return
    from canhazgpu.events.linux.process_state import halt_reason, is_state_readable, peer_pid  # noqa: PLC0415

    pid = peer_pid(link)
    name = f"the service (PID {pid})" if pid else f"the service on {path}"
    halt = halt_reason(pid) if pid else None
    _report(WAITING, f"Waiting for {name}" + (f", which {halt[0]}: {halt[1]}" if halt else ""))
    if is_readable(link, HALTED_TIME - SAY_AFTER):
        return
    halt = halt_reason(pid) if pid else None
    if halt:
        raise Unreachable(f"{name} {halt[0]}", f"to resume it: {halt[1]}")
    seen = pid and is_state_readable(pid)
    if not seen or not is_readable(link, ANSWER_TIME - HALTED_TIME):
        raise Unreachable(f"{name} {'is running but ' if seen else ''}does not answer")


def _report(callbacks: Iterable[MessageCallback], text: str) -> None:
    for callback in callbacks:
        callback(text)


def socket_path() -> str:
    """Return the service's socket: `$CANHAZGPU_SOCKET`, else the one in the settings file, else the default.

    The host's settings file is ignored if it is not readable. A file named by a non-empty
    `$CANHAZGPU_CONFIG` must be usable: raises BadSettings if it is not.
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
    """Return the content of a settings file without validating it. Raises BadSettings."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - pathlib would cost the command line its speed
            data = file.read()
        from canhazgpu.client.plain_settings import plain_settings  # noqa: PLC0415 - only if there is a file

        found = plain_settings(data)
        if found is not None:
            return found
        import tomllib  # noqa: PLC0415 - the slowest part of a command

        return tomllib.loads(data.decode())
    except OSError as error:
        raise BadSettings(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # Also a number or a nesting beyond all measure.
        raise BadSettings(f"{path}: is not valid TOML: {error}") from error


class Client:
    """A client of one service. Every call uses its own connection, which is closed afterwards."""

    def __init__(self, socket: str | None = None, *, patience: float | None = None) -> None:
        """Use `socket`, or by default the host's service. Raises BadSettings like `socket_path`.

        With `patience`, wait only so many seconds for each answer, also from a service that is busy.
        """
        self.socket = socket or socket_path()
        self._patience = patience
        self._stream: _Exchange | None = None
        self.abandoned = False

    def status(self, *, fresh: bool = True) -> list[dict[str, Any]]:
        """Return every GPU; with `fresh`, wait for a new scan."""
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
        """Yield the objects of a stream of JSON lines as they arrive. The request is a POST if it has a body.

        A stream without data for `silence` seconds counts as broken. Raises Unreachable and Refused.
        """
        exchange = _Exchange(self.socket, "GET" if body is None else "POST", path, body, silence)
        self._stream = exchange
        with exchange as answer:
            if self.abandoned:
                exchange.abandon()
            for line in answer:
                if line.strip():
                    yield loads(line)

    def abandon(self) -> None:
        """Break the stream that another thread waits for; it and later ones raise Unreachable."""
        self.abandoned = True
        if self._stream:
            self._stream.abandon()

    def _call(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        timeout = HALTED_TIME if self._patience is None else self._patience
        with _Exchange(self.socket, method, path, body, timeout, self._patience) as answer:
            return loads(answer.read())


class _Exchange:
    """A request and its answer, on a connection of its own. Raises Unreachable and Refused."""

    def __init__(  # noqa: PLR0913, PLR0917 - each is a part of the request
        self,
        path: str,
        method: str,
        target: str,
        body: dict[str, Any] | None,
        timeout: float | None,
        patience: float | None = None,
    ) -> None:
        """Store what is sent."""
        self._path, self._method, self._target, self._body = path, method, target, body
        self._timeout, self._patience = timeout, patience
        self._link: socket | None = None

    def __enter__(self) -> Answer:
        """Send the request and read the head of the answer."""
        try:
            patience = HALTED_TIME if self._patience is None else self._patience
            self._link = connect(self._path, self._timeout, patience)
            body = None if self._body is None else dumps(self._body)
            send(self._link, self._method, self._target, body)
            _await_answer(self._link, self._path, self._patience)
            answer = Answer(self._link)
            _check(answer)
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return answer

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Close the connection; make the errors of the connection readable."""
        try:
            if isinstance(error, OSError | BrokenAnswer | ValueError):
                raise self._unreachable(error) from error
        finally:
            if self._link:
                self._link.close()

    def abandon(self) -> None:
        """Break the connection, whatever another thread does with it."""
        if self._link:
            shut(self._link)

    def _unreachable(self, error: Exception) -> Unreachable:
        from canhazgpu.client.socket_errors import explain  # noqa: PLC0415
        from canhazgpu.events.linux.process_state import halt_reason, peer_pid  # noqa: PLC0415

        pid = peer_pid(self._link) if self._link else None
        halt = halt_reason(pid) if pid and isinstance(error, TimeoutError) else None
        if halt:
            return Unreachable(f"the service (PID {pid}) {halt[0]}", f"to resume it: {halt[1]}")
        why, remedy = explain(self._path, error)
        return Unreachable(f"the service does not answer on {self._path}: {why}", remedy)


def _check(answer: Answer) -> None:
    """Report what the service warns of. Raises Refused."""
    if answer.status < 400:  # noqa: PLR2004 - from here on HTTP means no
        for header in ("canhazgpu-degraded", "canhazgpu-restored"):
            warning = answer.headers.get(header)
            if warning:
                _report(WARNED, warning)
        return
    problem = loads(answer.read())
    kind = str(problem.get("type", "")).rpartition(":")[2]
    raise Refused(answer.status, kind, str(problem.get("detail", "refused")), str(problem.get("remedy", "")))
