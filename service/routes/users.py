"""The API route of users: who holds, uses and waits for GPUs now."""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from canhazgpu.config.settings import Settings
from canhazgpu.service.routes.last_known import LastKnown
from canhazgpu.service.status.gpu_status import status
from canhazgpu.service.status.user_status import user_status


class UserRoutes:
    """The route. Everybody can use it: it says no more than the state of the GPUs and the queue."""

    def __init__(self, settings: Settings, last_known: LastKnown) -> None:
        """Serve what `last_known` reads."""
        self._settings, self._last_known = settings, last_known

    def routes(self) -> Sequence[Route]:
        """Return the routes."""
        return [Route("/v1/users", self.users)]

    async def users(self, request: Request) -> Response:
        """Return a row for each user."""
        del request
        seen = await self._last_known.read_state()
        presume = self._settings.violations.presume_holder
        gpus = status(seen, self._settings.gpus.scan_interval, presume_holder=presume)
        return self._last_known.respond(user_status(seen, gpus), seen)
