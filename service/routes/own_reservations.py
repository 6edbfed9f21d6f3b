"""The API routes that show callers what they hold themselves. The kernel says who calls."""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from canhazgpu.config.settings import Settings
from canhazgpu.service.api.context import peer_of
from canhazgpu.service.gpus.scanner import Scanner
from canhazgpu.service.reservations.environment import environment
from canhazgpu.service.routes.last_known import LastKnown
from canhazgpu.service.status.gpu_status import reservation


class OwnReservationRoutes:
    """The routes for the caller's own live reservations."""

    def __init__(self, settings: Settings, scanner: Scanner, last_known: LastKnown) -> None:
        """Serve what these know."""
        self._settings, self._scanner, self._last_known = settings, scanner, last_known

    def routes(self) -> Sequence[Route]:
        """Return the routes."""
        return [Route("/v1/reservations/own", self.own)]

    async def own(self, request: Request) -> Response:
        """Return the caller's live reservations, the oldest first, each with its environment."""
        peer = peer_of(request)
        seen = await self._last_known.read_state()
        held = [
            {
                "reservation": reservation(record, seen.now_ms),
                "environment": environment(self._settings, record, self._scanner.known),
            }
            for record in seen.reservations
            if record.uid == peer.uid
        ]
        return self._last_known.respond(held, seen)
