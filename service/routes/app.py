"""The HTTP API under /v1. This file has the routes that read the state, and those for notices."""

import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from canhazgpu.config.settings import Settings
from canhazgpu.events import outbox
from canhazgpu.events.durations import parse_duration
from canhazgpu.events.notices import CHANNELS
from canhazgpu.events.redis_client.store import Store, StoreDown
from canhazgpu.events.sanitize import printable
from canhazgpu.service.api.context import body, peer_of, require_admin, respond
from canhazgpu.service.api.errors import Problem
from canhazgpu.service.api.gpu_names import with_index
from canhazgpu.service.api.rate_limit import RateLimit
from canhazgpu.service.api.redaction import Viewer
from canhazgpu.service.api.requests import TestNoticeRequest
from canhazgpu.service.gpus.scanner import Scanner
from canhazgpu.service.recovery.reconciliation import Reconciler
from canhazgpu.service.redis_server.durability import describe, weaknesses
from canhazgpu.service.redis_server.embedded import EmbeddedRedis
from canhazgpu.service.routes.event_routes import event_stream
from canhazgpu.service.routes.event_routes.event_filter import event_filter
from canhazgpu.service.routes.last_known import LastKnown
from canhazgpu.service.routes.openapi import openapi
from canhazgpu.service.status.gpu_status import status
from canhazgpu.service.storage.retention import Retention

FRESH = 0.25  # Seconds a status request waits for a scan of its own.
STREAM_ID = re.compile(r"\d{1,19}(-\d{1,19})?", re.ASCII)
PAST_EVENTS = 100
STREAMS = ("events", "deliveries")  # What everybody may read; attempts are only on the second one.
READS = ("GET", "HEAD")


class Api:
    """The API of one host."""

    def __init__(  # noqa: PLR0913, PLR0917 - each has a part in it
        self,
        settings: Settings,
        store: Store,
        scanner: Scanner,
        more: Sequence[Route],
        admin_group: int | None,
        reconciler: Reconciler,
        retention: Retention,
        last_known: LastKnown,
        embedded: EmbeddedRedis | None,
        machine: str,
    ) -> None:
        """Store the dependencies and `more` routes; nothing is opened."""
        self._settings = settings
        self._store = store
        self._scanner = scanner
        self._admin_group = admin_group
        self._reconciler = reconciler
        self._retention = retention
        self._embedded = embedded
        self._machine = machine
        self._more = more
        self._last_known = last_known

    def application(self) -> Any:
        """Return the ASGI application."""
        routes = [
            Route("/v1/health", self.health),
            Route("/v1/status", self.status),
            Route("/v1/events", self.events),
            Route("/v1/deliveries", self.deliveries),
            Route("/v1/deadletters", self.deadletters),
            Route("/v1/deadletters/{letter}/replay", self.replay, methods=["POST"]),
            Route("/v1/notices/test", self.test_notice, methods=["POST"]),
            Route("/v1/openapi.json", self.openapi),
            *self._more,
        ]
        handlers: dict[Any, Callable[..., Any]] = {
            Problem: _refuse,
            StoreDown: self._store_down,
            HTTPException: _http_error,
            ClientDisconnect: _client_disconnected,
            Exception: _unexpected_error,
        }
        pace = RateLimit(self._settings.limits.changes_per_hour)
        return self._guarded(pace.limit_changes(Starlette(routes=routes, exception_handlers=handlers)))

    def _guarded(self, application: Any) -> Any:
        """Refuse changes immediately while Redis is down, so that callers do not wait for it."""

        async def guarded(scope: Any, receive: Any, send: Any) -> None:
            refusal = await self._last_known.refusal() if scope["method"] not in READS else None
            await (refusal.response() if refusal else application)(scope, receive, send)

        return guarded

    async def _store_down(self, request: Request, down: StoreDown) -> Response:
        del request
        self._store.report_down(down)
        return self._last_known.problem(down).response()

    async def health(self, request: Request) -> Response:
        """Return the health of the service."""
        del request
        weak = await weaknesses(self._store)
        age = time.monotonic() - self._scanner.progress
        trouble = self._scanner.trouble
        return respond(
            {
                "host": self._settings.host,
                "machine": self._machine,
                "scan_age_s": round(age, 3),
                "stalled": trouble.reason if trouble else None,
                "remedy": trouble.remedy if trouble else None,
                "redis": await describe(self._store, self._embedded),
                "redis_weaknesses": weak,
                "journal_weakness": self._reconciler.journal_weakness,
                "journal_damage": self._reconciler.damage,
                "restoration": msgspec.to_builtins(self._reconciler.last),
                "streams": msgspec.to_builtins(self._retention.report),
            }
        )

    async def openapi(self, request: Request) -> Response:
        """Return the OpenAPI document."""
        del request
        return respond(openapi())

    async def status(self, request: Request) -> Response:
        """Return all GPUs; `fresh=1` waits for a new scan."""
        if request.query_params.get("fresh") == "1":
            await self._scanner.wait_for_new_scan(FRESH)
        presume = self._settings.violations.presume_holder
        seen = await self._last_known.read_state()
        rows = status(seen, self._settings.gpus.scan_interval, presume_holder=presume)
        return self._last_known.respond(rows, seen)

    async def events(self, request: Request) -> Response:
        """Return events as JSON lines: `after` (a stream id) or filters, `type` (repeatable), `follow=1`.

        `stream` is events or deliveries.
        """
        query = request.query_params
        stream = query.get("stream", "events")
        if stream not in STREAMS:
            raise Problem(400, "bad-request", f"`stream` is not one of {', '.join(STREAMS)}")
        # Call it anyway, because Redis may be down.
        newest = await event_stream.newest(self._store, PAST_EVENTS, stream)
        try:
            words = with_index(query, self._scanner.known)
            wanted, begin = event_filter(words, query.getlist("type"), round(time.time() * 1000))
        except ValueError as error:
            raise Problem(400, "bad-request", str(error)) from error
        after = query.get("after", begin or newest)
        if not STREAM_ID.fullmatch(after):
            raise Problem(400, "bad-request", "`after` is not a stream id", "use the stream_id of an event")
        follow = query.get("follow") == "1" and wanted.until_ms is None
        viewer = Viewer.of(peer_of(request), self._admin_group)
        lines = event_stream.feed(self._store, after, wanted, viewer, follow=follow, stream=stream)
        return StreamingResponse(lines, media_type="application/jsonl")

    async def deliveries(self, request: Request) -> Response:
        """Return the attempts to deliver notices: `since` (a duration, 7d), `notice`."""
        query = request.query_params
        rows = await outbox.deliveries(self._store, self._since_ms(query.get("since", "7d")))
        notice, viewer = query.get("notice"), Viewer.of(peer_of(request), self._admin_group)
        return respond(viewer.deliveries(row for row in rows if notice in (None, row.notice)))

    async def deadletters(self, request: Request) -> Response:
        """Return the dead letters; administrators only."""
        require_admin(peer_of(request), self._admin_group)
        return respond(await outbox.deadletters(self._store))

    async def replay(self, request: Request) -> Response:
        """Deliver a dead letter again; administrators only."""
        require_admin(peer_of(request), self._admin_group)
        letter = request.path_params["letter"]
        if not STREAM_ID.fullmatch(letter) or not await outbox.replay(self._store, letter):
            raise Problem(
                404, "no-such-deadletter", f"there is no dead letter {printable(letter)}", "list them first"
            )
        return respond({"replayed": letter})

    async def test_notice(self, request: Request) -> Response:
        """Send a test notice: `channel`, `to`. Only administrators can send it to others."""
        params = await body(request, TestNoticeRequest)
        channel, to = params.channel, params.to
        on = self._settings.notify.on
        if channel not in on:
            code = 409 if channel in CHANNELS and channel != "webhook" else 400  # Webhooks have names.
            raise Problem(
                code,
                "channel-off",
                f"there is no channel {channel}",
                f"enabled channels: {', '.join(on) or 'none'}",
            )
        peer = peer_of(request)
        if channel != "wall" or to not in (None, peer.name):
            require_admin(peer_of(request), self._admin_group)
        to = to or (peer.name if channel in ("wall", "email") else None)
        uid = peer.uid if to == peer.name else None
        notice = await outbox.send_test(self._store, channel, to, to or peer.name, uid)
        return respond({"notice": notice}, 202)

    def _since_ms(self, text: str) -> int:
        try:
            return max(0, round((time.time() - parse_duration(text)) * 1000))
        except ValueError as error:
            raise Problem(400, "bad-request", f"since: {error}") from error


async def _refuse(request: Request, problem: Problem) -> Response:
    if request.method != "GET":
        peer = peer_of(request)
        structlog.get_logger().info(
            "refused",
            what=f"{request.method} {printable(request.url.path, 100)}",
            user=peer.name,
            uid=peer.uid,
            pid=peer.pid,
            problem=problem.kind,
            detail=printable(problem.detail, 200),
        )
    return problem.response()


async def _http_error(request: Request, error: HTTPException) -> Response:
    path = printable(str(request.scope["path"]), 100)
    return Problem(error.status_code, "no-such-route", f"{request.method} {path}: {error.detail}").response()


async def _client_disconnected(request: Request, error: ClientDisconnect) -> Response:
    del request, error
    return Response(status_code=499)


async def _unexpected_error(request: Request, error: Exception) -> Response:
    structlog.get_logger().error("request_broke", path=printable(request.url.path, 100), exc_info=error)
    return Problem(500, "internal-error", "the service failed", "see its log").response()
