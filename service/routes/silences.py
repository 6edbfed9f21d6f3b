"""The API routes of silences. Administrators can silence any violation, users acknowledge their own."""

import re

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from canhazgpu.config.settings import Settings
from canhazgpu.events.durations import spell_length
from canhazgpu.events.redis_client.store import Store
from canhazgpu.events.sanitize import printable
from canhazgpu.events.silences import Silence
from canhazgpu.events.spelling.gpu_numbers import spell_gpu
from canhazgpu.service.api.context import body, operation_id, peer_of, proven_peer_of, require_admin, respond
from canhazgpu.service.api.errors import Problem
from canhazgpu.service.api.gpu_names import index_of
from canhazgpu.service.api.requests import AckRequest, SilenceRequest, UnsilenceRequest, seconds
from canhazgpu.service.gpus.scanner import Scanner
from canhazgpu.service.identity.peer import Peer
from canhazgpu.service.routes.last_known import LastKnown
from canhazgpu.service.silences.lifecycle import Draft, Silenced, Silences
from canhazgpu.service.status.gpu_status import rfc3339
from canhazgpu.service.storage.snapshot import Snapshot, snapshot

LONGEST = 30 * 86400.0
KNOWN = "acknowledged"  # The default reason.
NOTHING = "use of a GPU that somebody else has reserved cannot be acknowledged"
ASK = "ask an administrator"
ID = re.compile(r"s\d{1,19}-\d{1,19}", re.ASCII)


class SilenceRoutes:
    """The routes. Everybody can list silences; every change creates an event and is logged."""

    def __init__(  # noqa: PLR0913, PLR0917 - each has a part in it
        self,
        settings: Settings,
        store: Store,
        scanner: Scanner,
        silences: Silences,
        group: int | None,
        last_known: LastKnown,
    ) -> None:
        """Store the dependencies; administrators are root and the members of `group`."""
        self._longest_ack = settings.notices.ack_max
        self._store = store
        self._scanner = scanner
        self._silences = silences
        self._last_known = last_known
        self._group = group

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/silences", self.silences),
            Route("/v1/silences", self.silence, methods=["POST"]),
            Route("/v1/silences/ack", self.ack, methods=["POST"]),
            Route("/v1/silences/{silence}/expire", self.unsilence, methods=["POST"]),
        ]

    async def silences(self, request: Request) -> Response:
        """Return all live silences, sorted by end time."""
        del request
        known_state = await self._last_known.read_state()
        return self._last_known.respond([_row(one, known_state) for one in known_state.silences], known_state)

    async def silence(self, request: Request) -> Response:
        """Silence violations that match a user, a GPU and a process; administrators only."""
        peer = peer_of(request)
        require_admin(peer, self._group)
        params = await body(request, SilenceRequest)
        lasts = seconds(params.for_, "for")
        if lasts > LONGEST:
            raise Problem(400, "bad-request", f"for: {params.for_} is longer than 30d", "renew it in time")
        if (params.user, params.gpu, params.process) == (None, None, None):
            raise Problem(400, "bad-request", "specify at least one of `user`, `gpu` and `process`")
        if not params.reason.strip():
            raise Problem(400, "bad-request", "a silence needs a reason")
        known = self._scanner.known
        gpu = None if params.gpu is None else index_of(params.gpu, known)
        if gpu is not None and gpu not in known:
            remedy = "`canhazgpu status` lists them"
            raise Problem(400, "no-such-gpu", f"there is no GPU {spell_gpu(gpu)} on this host", remedy)
        draft = Draft(
            by=peer.name,
            by_uid=peer.uid,
            reason=params.reason,
            user=params.user,
            gpu=gpu,
            process=params.process,
        )
        done = await self._silences.silence(draft, operation_id(params.operation), lasts=lasts, ack_max=0)
        return await self._done(peer, "add", done, 201)

    async def ack(self, request: Request) -> Response:
        """Acknowledge the caller's open violations: once per episode, for at most `notices.ack_max`."""
        peer, params = proven_peer_of(request), await body(request, AckRequest)
        longest = self._longest_ack
        if not longest:
            raise Problem(403, "ack-off", "acknowledging violations is disabled on this host", ASK)
        lasts = longest if params.for_ is None else seconds(params.for_, "for")
        if lasts > longest:
            detail = f"for: {params.for_} exceeds your limit of {spell_length(longest)}"
            raise Problem(403, "too-long", detail, ASK)
        name = printable(peer.name)
        draft = Draft(
            by=name, by_uid=peer.uid, reason=(params.reason or "").strip() or KNOWN, user=name, ack=True
        )
        done = await self._silences.silence(
            draft, operation_id(params.operation), lasts=lasts, ack_max=longest
        )
        if done.code == "none":
            raise Problem(409, "no-violation", "you have no open violation that can be acknowledged", NOTHING)
        if done.code == "acknowledged":
            until = rfc3339(done.until_ms) or ""
            detail = f"you have already acknowledged this episode, until {until[:10]} {until[11:19]} UTC"
            raise Problem(409, "acknowledged", detail, ASK)
        return await self._done(peer, "ack", done, 201)

    async def unsilence(self, request: Request) -> Response:
        """End a silence. Users can end their own acknowledgements, administrators any silence."""
        peer, params = proven_peer_of(request), await body(request, UnsilenceRequest)
        name = request.path_params["silence"]
        missing = Problem(404, "no-such-silence", f"there is no silence {printable(name)}", "list them first")
        if not ID.fullmatch(name):
            raise missing
        done = await self._silences.unsilence(
            name,
            operation_id(params.operation),
            uid=peer.uid,
            by=peer.name,
            admin=peer.is_admin(self._group),
        )
        if done.code == "none":
            raise missing
        if done.code == "not-yours":
            whose = done.silence.by if done.silence else "an administrator"
            raise Problem(403, "not-yours", f"the silence belongs to {printable(whose)}", ASK)
        return await self._done(peer, "expire", done, 200)

    async def _done(self, peer: Peer, action: str, done: Silenced, code: int) -> Response:
        if done.silence is None:
            raise ValueError("a change that was made has a silence")
        facts = msgspec.structs.asdict(done.silence)
        what = {key: facts[key] for key in ("id", "user", "gpu", "process", "until", "reason")}
        structlog.get_logger().info("silence", action=action, by=peer.name, uid=peer.uid, what=what)
        return respond(_row(done.silence, await snapshot(self._store)), code)


def _row(silence: Silence, known_state: Snapshot) -> dict[str, object]:
    covered = [one for gpu in known_state.gpus for one in gpu.violations if silence.covers(one)]
    left_ms = 0 if silence.ended else max(0, silence.until_ms - known_state.now_ms)
    return {
        **msgspec.to_builtins(silence),
        "left_s": -(-left_ms // 1000),
        "violations": 0 if silence.ended else len(covered),
    }
