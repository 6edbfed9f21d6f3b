"""The API route that container runtimes ask before a container starts. It changes nothing."""

from typing import Any

import structlog
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from canhazgpu.config.settings import Settings
from canhazgpu.events.sanitize import printable
from canhazgpu.service.api.context import body, peer_of, respond
from canhazgpu.service.api.errors import Problem
from canhazgpu.service.api.requests import ContainerRequest
from canhazgpu.service.containers.decision import Asked, Decision, decide
from canhazgpu.service.containers.starter import starter_of
from canhazgpu.service.identity.user_names import Users
from canhazgpu.service.reservations.holder_token import HolderTokens
from canhazgpu.service.routes.last_known import LastKnown
from canhazgpu.service.routes.operation import WRITES, Operation
from canhazgpu.service.storage.snapshot import Snapshot

LONGEST_ID = 64


class NarrowedResponse(Struct, kw_only=True):
    """The GPUs that a container gets instead of all: their UUIDs, and the numbers of their device files."""

    uuids: list[str]
    devices: list[int]


class ContainerResponse(Struct, kw_only=True):
    """Whether a container may start on its `gpus`. `user`: who is proven to have started it, or null.

    `reason` is null if that user has reserved them. `allowed` is false only if the mode is `enforce`.
    """

    mode: str
    allowed: bool
    user: str | None
    gpus: list[int]
    only: NarrowedResponse | None
    reason: str | None
    remedy: str | None


CHECK = Operation(
    method="post",
    path="/v1/containers/check",
    about="Whether a container may start on the GPUs that it asks for. It changes nothing.",
    reply=ContainerResponse,
    body=ContainerRequest,
    problems=WRITES,
)


class ContainerRoutes:
    """The route. It proves nothing about the caller: the answer is of use only to a runtime."""

    def __init__(
        self, settings: Settings, users: Users, last_known: LastKnown, tokens: HolderTokens | None
    ) -> None:
        """Serve what these know."""
        self._settings, self._users = settings, users
        self._last_known, self._tokens = last_known, tokens

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [Route("/v1/containers/check", self.check, methods=["POST"])]

    async def check(self, request: Request) -> Response:
        """Say whether a container may start on the GPUs that it asks for."""
        peer, params = peer_of(request), await body(request, ContainerRequest)
        mode = self._settings.containers.mode
        if mode == "off":
            return respond(_answer(mode, None, Decision(gpus=()), None))
        seen = await self._last_known.read_state()
        if seen.scanned_ms is None:  # All GPUs would be none.
            raise Problem(503, "not-scanned", "the GPUs have not been read yet", "run `canhazgpu doctor`")
        login = None if peer.login_uid is None else await self._users.name_of(peer.login_uid)
        starter = starter_of(
            peer,
            params.token,
            seen.reservations,
            self._tokens,
            daemon=params.daemon,
            login_name=login,
            exempt_users=self._settings.violations.exempt_users,
        )
        asked = Asked(
            names=tuple(params.names), devices=tuple(params.devices), every=params.every, narrow=params.narrow
        )
        decision = decide(asked, starter, seen)
        if decision.reason and peer.uid == 0:  # Users see it themselves, and could fill the log.
            structlog.get_logger().warning(
                "container_refused" if mode == "enforce" else "container_without_reservation",
                container=printable(params.id, LONGEST_ID),
                user=starter.user,
                gpus=list(decision.gpus),
                reason=decision.reason,
            )
        return respond(_answer(mode, starter.user, decision, seen))


def _answer(mode: str, user: str | None, decision: Decision, seen: Snapshot | None) -> dict[str, Any]:
    only = None
    if decision.only is not None and seen is not None:
        cards = [gpu.usage for gpu in seen.gpus if gpu.usage.index in decision.only]
        only = {
            "uuids": [card.uuid for card in cards],
            "devices": [card.minor for card in cards if card.minor is not None],
        }
    return {
        "mode": mode,
        "allowed": decision.reason is None or mode != "enforce",
        "user": user,
        "gpus": list(decision.gpus),
        "only": only,
        "reason": decision.reason,
        "remedy": decision.remedy,
    }
