"""The API route of ended reservations. Everybody can read it, as the events that it is made of."""

import time
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.api.context import peer_of, respond
from canhazgpu.service.api.errors import Problem
from canhazgpu.service.api.gpu_names import with_index
from canhazgpu.service.gpus.scanner import Scanner
from canhazgpu.service.identity.user_names import Users
from canhazgpu.service.reservations.ended import MOST_ROWS, EndedFilter, ended_reservations
from canhazgpu.service.violations.filters import filters

MOST_DIGITS = 5  # Of a number of rows.
NAMES = ("since", "until", "user", "gpu")


class EndedReservationRoutes:
    """The route."""

    def __init__(self, store: Store, scanner: Scanner, users: Users) -> None:
        """Serve what `store` keeps."""
        self._store, self._scanner, self._users = store, scanner, users

    def routes(self) -> Sequence[Route]:
        """Return the routes."""
        return [Route("/v1/reservations/ended", self.ended)]

    async def ended(self, request: Request) -> Response:
        """Return ended reservations, oldest first: `since`, `until`, `user`, `own=1`, `gpu`, `n`."""
        query = request.query_params
        words = {name: query[name] for name in NAMES if name in query}
        words = with_index(words, self._scanner.known)
        try:
            found = filters(words, round(time.time() * 1000))
            most = _number(query.get("n", str(MOST_ROWS)))
        except ValueError as error:
            raise Problem(400, "bad-request", str(error)) from error
        uid = peer_of(request).uid if query.get("own") == "1" else None
        if found.user is not None:
            uid = await self._users.uid_meant(found.user)
        wanted = EndedFilter(
            since_ms=found.since_ms, until_ms=found.until_ms, user=found.user, uid=uid, gpu=found.gpu
        )
        return respond(await ended_reservations(self._store, wanted, most))


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS and 1 <= int(text) <= MOST_ROWS):
        raise ValueError(f"n: expected a number from 1 to {MOST_ROWS}")
    return int(text)
