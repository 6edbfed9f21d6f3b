"""The types of API responses. The OpenAPI document is generated from them, and a test compares it."""

from msgspec import Struct

from canhazgpu.events.gpu import Container, Hint, MigReading, Vendor
from canhazgpu.events.silences import Silence
from canhazgpu.events.violations import Violation


class ProcessResponse(Struct, kw_only=True):
    """A process on a GPU. `memory_mb` is null if it is not known.

    `hint` names the probable user if no user is proven; it is not proof.
    """

    pid: int
    name: str
    user: str
    memory_mb: int | None
    container: Container | None
    evidence: str
    hint: Hint | None


class ReservationResponse(Struct, kw_only=True):
    """A live reservation. Times are RFC 3339 in UTC, durations are whole seconds.

    `until`: when it ends at the latest: it expires, or the time limit of a run ends; null if there is none.
    `idle_s`: how long its GPUs have not been used; null if they are used, if it is not known, or if
    `notices.idle_after` is 0.
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
    until: str | None
    last_heartbeat_s: int | None
    lingering_s: int | None
    idle_s: int | None


class SilencedViolation(Violation, frozen=True, kw_only=True):
    """An open violation. `silenced_until` is the end of its silence, null if it is not silenced."""

    silenced_until: str | None


class SilenceResponse(Silence, frozen=True, kw_only=True):
    """A silence. `left_s`: its remaining time; `violations`: the number of open violations that it covers."""

    left_s: int
    violations: int


class GpuResponse(Struct, kw_only=True):
    """One GPU: AVAILABLE, IN_USE, UNRESERVED, DRAINED, UNMANAGED, ERROR, UNKNOWN or PARTITIONED.

    PARTITIONED: it is divided into MIG `instances`, which have a row each, and nobody holds all of it. An
    instance has a `parent` and a `profile`. `number`: 3, or 0:1 for an instance. Memory is in MiB.
    `minor` is the N of its device file /dev/nvidiaN, null if it is not known.
    `memory_mb` is the counted memory; `memory_used_mb`, `utilization_percent` and `temperature_c` (degrees
    Celsius) are reported by the GPU, null if it reports none.
    `silenced_s`: the remaining time for which all its open violations are silenced; null if one is not
    silenced, or there are none. On a reserved GPU, `others` are processes of other users, and `presumed`
    those that are assumed to be the holder's because no user is proven. `stale_reason`: why this is only the
    last known state, null if it is current; `stale_s`: how long Redis has not confirmed it.
    """

    gpu_id: int
    number: str
    parent: int | None
    profile: str | None
    uuid: str
    name: str
    vendor: Vendor
    minor: int | None
    status: str
    reason: str | None
    remedy: str | None
    users: list[str]
    memory_mb: int
    memory_used_mb: int | None
    memory_total_mb: int | None
    utilization_percent: int | None
    temperature_c: int | None
    in_use: bool
    processes: list[ProcessResponse]
    others: list[ProcessResponse]
    presumed: list[ProcessResponse]
    reservation: ReservationResponse | None
    drained: str | None
    violations: list[SilencedViolation]
    silenced_s: int | None
    mig: list[MigReading]
    instances: list[int]
    last_released: str | None
    released_s: int | None
    scanned_at: str | None
    stale_s: int | None
    stale_reason: str | None


class QueueEntryResponse(Struct, kw_only=True):
    """A request in the queue. `expected` is null if the time cannot be predicted.

    `vendor`: it is for GPUs of one vendor of several on this host; `profile`: it is for MIG instances.
    """

    id: str
    position: int
    user: str
    label: str | None
    note: str | None
    kind: str
    count: int
    vendor: Vendor | None
    profile: str | None
    gpus: list[int] | None
    queued: str
    waiting_s: int
    expected: str | None
    reason: str


class GrantedResponse(Struct, kw_only=True):
    """The granted reservation, and the environment for a program that uses its GPUs.

    `held`: the GPUs of the reservation that a run uses, which its user held before; null if it is new.
    """

    state: str
    held: list[int] | None
    reservation: ReservationResponse
    environment: dict[str, str]


class LabelledResponse(Struct, kw_only=True):
    """Whether there is such a reservation, which then has the label."""

    labelled: bool


class OwnReservationResponse(Struct, kw_only=True):
    """A live reservation of the caller, and the environment for a program that uses its GPUs."""

    reservation: ReservationResponse
    environment: dict[str, str]


class ReleasedResponse(Struct, kw_only=True):
    """The released GPUs of one reservation. `whole`: it has ended; `ended`: its process had ended before."""

    id: str
    kind: str
    user: str
    gpus: list[int]
    whole: bool
    ended: bool


class DisownedResponse(Struct, kw_only=True):
    """A GPU and the users whose use of it was disowned; null if that was undone."""

    gpu: int
    users: list[str] | None


class LeaveResponse(Struct, kw_only=True):
    """The request that left the queue."""

    left: str


class CancelledResponse(Struct, kw_only=True):
    """A request that was cancelled. `profile`: it was for MIG instances."""

    id: str
    user: str
    kind: str
    count: int
    profile: str | None
    gpus: list[int] | None
    note: str | None


class DrainResponse(Struct, kw_only=True):
    """The GPUs whose state changed."""

    changed: list[int]
    reason: str | None


class ManageResponse(Struct, kw_only=True):
    """The managed GPUs, and those whose reservations were ended for this change."""

    managed: list[int]
    released: list[int]


class ViolationResponse(Violation, frozen=True, kw_only=True):
    """A violation, open or closed.

    `told`: reached, unreached (the user could not be notified), pending, silenced, or null. `reached_at` is
    the time at which a notice first reached the user.
    """

    state: str
    told: str | None
    reached_at: str | None


class ReplayResponse(Struct, kw_only=True):
    """The dead letter that will be delivered again."""

    replayed: str


class TestNoticeResponse(Struct, kw_only=True):
    """The id of the created notice."""

    notice: str


class ProblemDetails(Struct, kw_only=True):
    """An error (RFC 9457). `counts`: for a request for GPUs, the number of GPUs in each state.

    `hosts`: at the limit of the fleet, how many GPUs the user holds on other hosts.
    """

    type: str
    title: str
    status: int
    detail: str
    remedy: str
    counts: dict[str, int] | None = None
    hosts: dict[str, int] | None = None
