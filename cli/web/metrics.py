"""The metrics of `canhazgpu exporter`, in the process of the page. Without a reader, they cost nothing."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

import anyio.to_thread
from anyio import CapacityLimiter

from canhazgpu.client.connection import Client

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from canhazgpu.cli.exporter.host_metrics import HostMetrics

MISSING = "this needs prometheus-client: pip install 'canhazgpu[exporter]'\n"
STOPPED = "the counters stand still, because of a fault that the log has: restart canhazgpu web\n"
PROGRAM = "canhazgpu web"
MOST = 4  # Answers at a time: they leave threads for the page while the service hangs.
TEXT = "text/plain; charset=utf-8"


class Metrics:
    """Begins to count with the first request."""

    def __init__(self, socket: str, most_users: int) -> None:
        """Ask the service at `socket`, later; at most so many users have figures of their own."""
        self._socket, self._most_users = socket, most_users
        self._lock, self._limiter = Lock(), CapacityLimiter(MOST)
        self._host: HostMetrics | None = None
        self._fleet: CollectorRegistry | None = None

    async def answer(self, accept: str, *, fleet: bool = False) -> tuple[int, str, bytes]:
        """Return a status, a content type that the header Accept allows, and the metrics."""
        answer = self._fleet_answer if fleet else self._answer
        return await anyio.to_thread.run_sync(answer, accept, abandon_on_cancel=True, limiter=self._limiter)

    def _fleet_answer(self, accept: str) -> tuple[int, str, bytes]:
        try:
            from prometheus_client.exposition import choose_encoder  # noqa: PLC0415 - an extra, and heavy

            from canhazgpu.cli.exporter.fleet_figures import fleet_registry  # noqa: PLC0415 - an extra

            with self._lock:
                found = self._fleet = self._fleet or fleet_registry(Client(self._socket), PROGRAM)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "prometheus_client":
                raise
            return 501, TEXT, MISSING.encode()
        encode, content_type = choose_encoder(accept)
        return 200, content_type, encode(found)

    def _answer(self, accept: str) -> tuple[int, str, bytes]:
        try:
            from prometheus_client.exposition import choose_encoder  # noqa: PLC0415 - an extra, and heavy

            with self._lock:
                host = self._host = self._host or self._started()
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "prometheus_client":
                raise
            return 501, TEXT, MISSING.encode()
        if not host.are_counted:
            return 500, TEXT, STOPPED.encode()
        encode, content_type = choose_encoder(accept)
        return 200, content_type, encode(host.registry)

    def _started(self) -> HostMetrics:
        from canhazgpu.cli.exporter.host_metrics import PATIENCE, HostMetrics  # noqa: PLC0415 - an extra

        found = HostMetrics(PROGRAM)
        found.start(Client(self._socket, patience=PATIENCE), self._most_users)
        return found
