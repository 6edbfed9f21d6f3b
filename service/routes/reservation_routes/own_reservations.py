"""The API routes that show callers what they hold themselves. The kernel says who calls."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from canhazgpu.config.settings import Settings
from canhazgpu.events.linux.processes import Process, start_time_of
from canhazgpu.events.reservations import RUN, Record
from canhazgpu.service.api.allowance import Allowances
from canhazgpu.service.api.context import peer_of
from canhazgpu.service.api.gpu_names import indices
from canhazgpu.service.api.requests import ReserveRequest
from canhazgpu.service.api.vendor_choice import only_of
from canhazgpu.service.gpus.scanner import Scanner
from canhazgpu.service.identity.peer import Peer
from canhazgpu.service.reservations.allocator import Allocator
from canhazgpu.service.reservations.environment import environment
from canhazgpu.service.reservations.held_use import (
    HeldUse,
    NestedRuns,
    choose,
    is_own,
    outer_runs,
    refuse_waiting_for_itself,
    surrounding,
)
from canhazgpu.service.reservations.holder_token import HolderTokens
from canhazgpu.service.routes.last_known import LastKnown
from canhazgpu.service.status.gpu_holders import gpu_holders
from canhazgpu.service.status.gpu_status import reservation


class OwnReservationRoutes:
    """The routes for the caller's own live reservations, and how a run uses one of them."""

    def __init__(  # noqa: PLR0913, PLR0917 - each has a part in it
        self,
        settings: Settings,
        scanner: Scanner,
        allocator: Allocator,
        last_known: LastKnown,
        tokens: HolderTokens | None,
        allowances: Allowances,
    ) -> None:
        """Serve what these know."""
        self._allocator = allocator
        self._settings, self._scanner, self._last_known = settings, scanner, last_known
        self._nested = NestedRuns()
        self._tokens, self._allowances = tokens, allowances

    def routes(self) -> Sequence[Route]:
        """Return the routes."""
        return [
            Route("/v1/reservations/own", self.own),
            Route("/v1/check", self.check),
        ]

    async def own(self, request: Request) -> Response:
        """Return the caller's live reservations, the oldest first, each with its environment."""
        peer = peer_of(request)
        seen = await self._last_known.read_state()
        held = [
            {
                "reservation": reservation(record, seen.now_ms),
                "environment": self.environment(record, proven=peer.proven is True),
            }
            for record in seen.reservations
            if is_own(record, peer.uid, peer.login_uid)
        ]
        return self._last_known.respond(held, seen)

    async def check(self, request: Request) -> Response:
        """Return the holder of each GPU, and whether that is the caller."""
        peer = peer_of(request)
        seen = await self._last_known.read_state()
        rows = gpu_holders(seen, lambda record: is_own(record, peer.uid, peer.login_uid))
        return self._last_known.respond(rows, seen)

    async def held(self, peer: Peer, params: ReserveRequest, *, wait: bool) -> dict[str, Any] | None:
        """Return the answer for a run that uses a reservation of its user's, or None if it needs a new one.

        Raises Problem if it asks for more than the reservation that it is part of has, or if it would wait
        for itself, and StoreDown.
        """
        nested = params.kind == RUN and params.use_held
        if not (nested or wait):
            return None
        records = await self._allocator.reservations()
        own = [record for record in records if is_own(record, peer.uid, peer.login_uid)]
        gpus = indices(params.gpus, self._scanner.known)
        within = surrounding(own, params.within, params.job)
        if nested:
            timeout, uses = params.timeout is not None, self._nested.uses()
            whole = params.count is not None and params.profile is None
            known, profile = self._scanner.known, params.profile
            usable = (
                own
                if gpus
                else only_of(params.vendor, own, known, profile=profile, whole=whole, within=within)
            )
            found = choose(usable, within, uses, count=params.count, gpus=gpus, timeout=timeout)
            if found:
                return self._granted(peer, found)
        outer = outer_runs(records, own, within, peer.pid) if wait else ()
        if outer:
            refuse_waiting_for_itself(
                outer,
                need=len(gpus) if gpus else params.count or 1,
                gpus=gpus,
                managed=len(await self._last_known.managed()),
                limit=self._allowances.of(peer.name).most,
            )
        return None

    def environment(
        self,
        record: Record,
        gpus: Sequence[int] | None = None,
        cards: Mapping[str, str] | None = None,
        *,
        proven: bool = True,
    ) -> dict[str, str]:
        """Return the variables for all GPUs of a reservation or for some.

        Only callers who are `proven` to be the holder get the token for containers.
        """
        known = self._scanner.known
        return environment(
            self._settings, record, known, gpus, cards, tokens=self._tokens if proven else None
        )

    def _granted(self, peer: Peer, use: HeldUse) -> dict[str, Any]:
        if start := start_time_of(peer.pid):
            self._nested.add(Process(peer.pid, start), use.gpus)
        return {
            "state": "granted",
            "held": list(use.gpus),
            "reservation": reservation(use.record, round(time.time() * 1000)),
            "environment": self.environment(use.record, use.gpus),
        }
