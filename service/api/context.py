"""Shared by all routes: the caller, the request body, and the response."""

import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import anyio
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from canhazgpu.events.linux.processes import has_ended
from canhazgpu.service.api.errors import Problem
from canhazgpu.service.identity.peer import Peer

BODY_TIME = 5.0
LONGEST_BODY = 65536

T = TypeVar("T")


def peer_of(request: Request) -> Peer:
    """Return the caller."""
    peer: Peer = request.scope["canhazgpu.peer"]
    return peer


def proven_peer_of(request: Request) -> Peer:
    """Return the caller of a change. Raises Problem if the uid does not prove who the caller is."""
    peer = peer_of(request)
    if peer.proven is None:
        detail = "the service has no file descriptor left to check who you are"
        raise Problem(503, "unavailable", detail, "try again")
    if not peer.proven and peer.pid > 0 and _has_ended(process_of(request)):
        raise Problem(409, "process-not-visible", "your process has ended")
    if not peer.proven:
        detail = "your process is in a container, where its uid does not prove who you are"
        raise Problem(403, "unproven-caller", detail, "run canhazgpu on the host")
    return peer


def process_of(request: Request) -> int | None:
    """Return a pidfd of the calling process, which the caller closes; None if it is not visible."""
    found: int | None = request.scope["canhazgpu.process"]()
    return found


def _has_ended(process: int | None) -> bool:
    if process is None:
        return True
    try:
        return has_ended(process)
    finally:
        os.close(process)


def on_delivered(request: Request, callback: Callable[[bool], None]) -> None:
    """Call `callback` once: with True if the response was delivered, with False if it could not be."""
    request.scope["canhazgpu.on_delivered"](callback)


def require_admin(peer: Peer, group: int | None) -> None:
    """Raise Problem unless the caller is an administrator."""
    if not peer.is_admin(group):
        remedy = "ask root or a member of the group in the setting admin_group"
        raise Problem(403, "not-an-administrator", "only administrators can do this", remedy)


async def body(request: Request, kind: type[T]) -> T:
    """Return the request's JSON as `kind`. Raises Problem if it is late, too long or not valid."""
    raw = b""
    try:
        with anyio.fail_after(BODY_TIME):
            async for chunk in request.stream():
                raw += chunk
                if len(raw) > LONGEST_BODY:
                    raise Problem(413, "too-large", "the request is too large")
        return msgspec.json.decode(raw or b"{}", type=kind)
    except TimeoutError:
        raise Problem(408, "too-slow", "the request did not arrive in time") from None
    except UnicodeDecodeError:
        raise Problem(400, "bad-request", "the request is not valid UTF-8") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise Problem(400, "bad-request", f"the request is invalid: {error}") from error


def operation_id(named: str | None) -> str:
    """Return the operation id of the request, or a new one."""
    return named or uuid.uuid4().hex


def respond(value: Any, code: int = 200) -> Response:
    """Return a value as JSON."""
    return Response(msgspec.json.encode(value), code, media_type="application/json")


class Lines(Response):
    """JSON lines that end when the client disconnects; `on_disconnect` is always awaited at the end."""

    def __init__(
        self, lines: AsyncIterator[Any], on_disconnect: Callable[[], Awaitable[None]], descriptor: int | None
    ) -> None:
        """Send `lines`; each is a value, or None for a keep-alive. `descriptor` is closed at the end."""
        super().__init__(media_type="application/jsonl")
        del self.headers["content-length"]
        self._lines, self._on_disconnect, self._descriptor = lines, on_disconnect, descriptor

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send the lines as they come."""
        del scope
        done = False
        try:
            async with anyio.create_task_group() as tasks:

                async def watch() -> None:
                    while (await receive())["type"] != "http.disconnect":
                        pass
                    tasks.cancel_scope.cancel()

                tasks.start_soon(watch)
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                async for line in self._lines:
                    text = b"\n" if line is None else msgspec.json.encode(line) + b"\n"
                    await send({"type": "http.response.body", "body": text, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
                done = True
                tasks.cancel_scope.cancel()
        finally:
            if self._descriptor is not None:
                os.close(self._descriptor)
            if not done:
                with anyio.CancelScope(shield=True):
                    await self._on_disconnect()
