"""What the API answers, as types: the OpenAPI document is made from them, and a test compares them."""

from msgspec import Struct

from canhazgpu.events.gpu import Container, Hint, MigReading
from canhazgpu.events.silences import Silence
from canhazgpu.events.violations import Violation
from canhazgpu.service.retention import StreamsReport


class ProcessAnswer(Struct, kw_only=True):
    """A process on a GPU; `memory_mb` is null where it cannot be told.

    `hint` says who it probably belongs to where nobody is proven; it is never a proof.
    """

    pid: int
    name: str
    user: str
    memory_mb: int | None
    container: Container | None
    evidence: str
    hint: Hint | None


class ReservationAnswer(Struct, kw_only=True):
    """A live reservation. Moments are RFC 3339 in UTC, durations are whole seconds.

    `idle_s`: for how long its user has used none of its GPUs; null where they do, where it cannot be told,
    and where `notices.idle_after` is 0.
    """

    id: str
    kind: str
    user: str
    label: str | None
    note: str | None
    gpus: list[int]
    pid: int | None
    started: str
    for_s: int
    expires: str | None
    expires_in_s: int | None
    last_heartbeat_s: int | None
    lingering_s: int | None
    idle_s: int | None


class SilencedViolation(Violation, frozen=True, kw_only=True):
    """An open violation; `silenced_until`: until when nobody is told of it, null where somebody is."""

    silenced_until: str | None


class SilenceAnswer(Silence, frozen=True, kw_only=True):
    """A silence; `left_s`: how long it lasts still; `violations`: how many open ones it covers now."""

    left_s: int
    violations: int


class GpuAnswer(Struct, kw_only=True):
    """One GPU: AVAILABLE, IN_USE, UNRESERVED, DRAINED, UNMANAGED, ERROR or UNKNOWN. Memory is in MiB.

    `memory_mb` is what is counted; `memory_used_mb` what the GPU itself reports, null where it reports none.
    `silenced_s`: for how long still nobody is told of any of its open violations; null where somebody is,
    or where there are none. On a reserved GPU `others` are processes that are not its holder's, and
    `presumed` those taken for the holder's because nobody can be proven. `stale_reason`: why this is only
    what was last known, null where it is of now; `stale_s` is for how long Redis has not confirmed it.
    """

    gpu_id: int
    uuid: str
    name: str
    status: str
    reason: str | None
    remedy: str | None
    users: list[str]
    memory_mb: int
    memory_used_mb: int | None
    memory_total_mb: int | None
    in_use: bool
    processes: list[ProcessAnswer]
    others: list[ProcessAnswer]
    presumed: list[ProcessAnswer]
    reservation: ReservationAnswer | None
    drained: str | None
    violations: list[SilencedViolation]
    silenced_s: int | None
    mig: list[MigReading]
    last_released: str | None
    released_s: int | None
    scanned_at: str | None
    stale_s: int | None
    stale_reason: str | None


class RequestAnswer(Struct, kw_only=True):
    """A request in the queue; `expected` is null where nothing says when."""

    id: str
    position: int
    user: str
    label: str | None
    note: str | None
    kind: str
    count: int
    gpus: list[int] | None
    queued: str
    waiting_s: int
    expected: str | None
    reason: str


class GrantedAnswer(Struct, kw_only=True):
    """GPUs that are the caller's now, and the environment of a program that is to use them."""

    state: str
    reservation: ReservationAnswer
    environment: dict[str, str]


class ReleasedAnswer(Struct, kw_only=True):
    """What one reservation let go of; `whole` when it is over, `ended` when its process was over before."""

    id: str
    kind: str
    user: str
    gpus: list[int]
    whole: bool
    ended: bool


class DisownedAnswer(Struct, kw_only=True):
    """A GPU and the users whose use of it is not its holder's; null when it is after all."""

    gpu: int
    users: list[str] | None


class LeftAnswer(Struct, kw_only=True):
    """The request that waits no more."""

    left: str


class DrainAnswer(Struct, kw_only=True):
    """The GPUs for which something changed."""

    changed: list[int]
    reason: str | None


class ManageAnswer(Struct, kw_only=True):
    """The GPUs that are handed out, and those whose reservation was ended for it."""

    managed: list[int]
    released: list[int]


class ConflictAnswer(Struct, kw_only=True):
    """A GPU that two reservations had a claim on: whose it is, and who lost it."""

    gpu: int
    holder: str
    loser: str


class RestorationAnswer(Struct, kw_only=True):
    """What was put right after Redis had lost it, and when (RFC 3339): ids of reservations.

    `dropped` were over before; old data had brought them back, or they ended while they were lost.
    """

    at: str
    restored: list[str]
    dropped: list[str]
    conflicts: list[ConflictAnswer]


class RedisAnswer(Struct, kw_only=True):
    """The server that holds the state: its family (redis or valkey), its version, and its program's path.

    `program` is null where the server is not the service's own; `damage` says what of its file was lost at a
    start, if anything.
    """

    server: str
    version: str
    program: str | None
    damage: str | None


class HealthAnswer(Struct, kw_only=True):
    """Seconds since the last scan, and where Redis is less durable than it should be.

    `machine` is this machine's id, whatever the host is called (not /etc/machine-id itself).
    `stalled`: why that scan reached no GPU, and its `remedy`; null where it did.
    `journal_weakness` says why reservations cannot be written beside Redis, if so; `restoration` is the last
    one since the service began. `streams`: what they hold, and who reads them; null before it is known.
    """

    host: str
    machine: str
    scan_age_s: float
    stalled: str | None
    remedy: str | None
    redis: RedisAnswer
    redis_weaknesses: list[str]
    journal_weakness: str | None
    restoration: RestorationAnswer | None
    streams: StreamsReport | None


class ViolationAnswer(Violation, frozen=True, kw_only=True):
    """A violation, open or closed.

    `told`: reached, unreached (their user was to be told, and could not be), pending, silenced, or null;
    `reached_at` is when a notice first reached them.
    """

    state: str
    told: str | None
    reached_at: str | None


class ReplayAnswer(Struct, kw_only=True):
    """The dead letter that is tried again."""

    replayed: str


class NoticeAnswer(Struct, kw_only=True):
    """The id of the notice that is on its way."""

    notice: str


class ProblemAnswer(Struct, kw_only=True):
    """Why something was not done (RFC 9457); `counts` says of a request for GPUs how many are what."""

    type: str
    title: str
    status: int
    detail: str
    remedy: str
    counts: dict[str, int] | None = None
