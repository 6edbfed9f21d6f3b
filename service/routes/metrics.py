"""The API route for monitoring: all figures of this moment in one answer, also while Redis is down."""

import time
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from canhazgpu.config.settings import Settings
from canhazgpu.events.redis_client.store import Store, StoreDown
from canhazgpu.service.api.responses import GpuResponse
from canhazgpu.service.gpus.scanner import Scanner
from canhazgpu.service.recovery.reconciliation import Reconciler
from canhazgpu.service.redis_server.durability import weaknesses
from canhazgpu.service.routes.last_known import LastKnown
from canhazgpu.service.routes.operation import Operation
from canhazgpu.service.status.gpu_status import status
from canhazgpu.service.storage.retention import Retention, StreamsReport

LOOK = 60.0  # Seconds between two looks at the settings of Redis, which take longer than everything else.


class WaitingResponse(Struct, kw_only=True):
    """A request in the queue: its kind, how many GPUs it needs, and how long it has waited."""

    kind: str
    count: int
    waiting_s: int


class BookedResponse(Struct, kw_only=True):
    """A booking that has not begun: how many GPUs it is for, and whether its begin has passed."""

    count: int
    late: bool


class MetricsResponse(Struct, kw_only=True):
    """The figures of this moment. Durations are in seconds.

    `stalled`: why the last scan could not read the GPUs; null if it could. `scan_duration_s` is null before
    the first scan has ended. `redis_trouble`: why Redis does not answer; null if it does. `redis_weaknesses`
    (at most a minute old) and `journal_weakness` are as in the health. `restored_at`: the last restoration.
    """

    gpus: list[GpuResponse]
    queue: list[WaitingResponse]
    bookings: list[BookedResponse]
    scan_age_s: float
    scan_duration_s: float | None
    stalled: str | None
    redis_trouble: str | None
    redis_weaknesses: list[str]
    journal_weakness: str | None
    restored_at: str | None
    streams: StreamsReport | None


METRICS = Operation(
    method="get", path="/v1/metrics", about="What `canhazgpu exporter` shows.", reply=MetricsResponse
)


class MetricsRoutes:
    """The route. Everybody can use it: it says no more than the status, the queue and the health."""

    def __init__(  # noqa: PLR0913, PLR0917 - each has a part in it
        self,
        settings: Settings,
        store: Store,
        scanner: Scanner,
        reconciler: Reconciler,
        retention: Retention,
        last_known: LastKnown,
    ) -> None:
        """Store the dependencies; nothing is read before somebody asks."""
        self._settings, self._store, self._scanner = settings, store, scanner
        self._reconciler, self._retention, self._last_known = reconciler, retention, last_known
        self._weaknesses: list[str] = []
        self._looked = -LOOK

    def routes(self) -> Sequence[Route]:
        """Return the routes."""
        return [Route("/v1/metrics", self.metrics)]

    async def metrics(self, request: Request) -> Response:
        """Return the figures of this moment."""
        del request
        seen = await self._last_known.read_state()
        trouble, last = self._scanner.trouble, self._reconciler.last
        duration = self._scanner.duration
        presume = self._settings.violations.presume_holder
        redis_trouble = seen.stale_reason or await self._look_at_redis()
        found: dict[str, Any] = {
            "gpus": status(seen, self._settings.gpus.scan_interval, presume_holder=presume),
            "queue": [
                {
                    "kind": one.kind,
                    "count": one.need,
                    "waiting_s": max(0, (seen.now_ms - one.queued_ms) // 1000),
                }
                for one in seen.waiting
            ],
            "bookings": [
                {"count": one.count, "late": one.begin_ms <= seen.now_ms}
                for one in (self._last_known.bookings() if seen.stale_reason else seen.windows)
                if one.drain is None
            ],
            "scan_age_s": round(time.monotonic() - self._scanner.progress, 3),
            "scan_duration_s": None if duration is None else round(duration, 4),
            "stalled": trouble.reason if trouble else None,
            "redis_trouble": redis_trouble,
            "redis_weaknesses": self._weaknesses,
            "journal_weakness": self._reconciler.journal_weakness,
            "restored_at": last.at if last else None,
            "streams": msgspec.to_builtins(self._retention.report),
        }
        return self._last_known.respond(found, seen)

    async def _look_at_redis(self) -> str | None:
        """Bring the weaknesses up to date; return why Redis does not answer, or None."""
        if time.monotonic() - self._looked < LOOK:
            return None
        try:
            self._weaknesses = await weaknesses(self._store)
        except StoreDown as down:
            return self._store.explain(down)[0]
        self._looked = time.monotonic()
        return None
