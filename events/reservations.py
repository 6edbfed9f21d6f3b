"""Reservations, which give GPUs to one user until they end, and what becomes a reservation later.

Requests wait for GPUs. Bookings promise GPUs for a window of time, and become reservations when it begins.
"""

from typing import Annotated

import msgspec

from canhazgpu.events.gpu import Vendor

RUN, MANUAL = "run", "manual"
SLURM, PBS, KUBERNETES = "slurm", "pbs", "kubernetes"
SCHEDULERS = frozenset({SLURM, PBS, KUBERNETES})
Count = Annotated[int, msgspec.Meta(ge=1)]
Moment = Annotated[int, msgspec.Meta(ge=0, lt=10**14)]  # Milliseconds since 1970, up to the year 5138.


def job_label(job: str) -> str:
    """Return the label of the reservation of a scheduler's job."""
    return f"job {job}"


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A live reservation as stored in Redis. Times are milliseconds of Redis' clock.

    `kind` is run (it lasts as long as the process `pid` with the start time `start`, in clock ticks), manual
    (it lasts until `expires_ms`), or one of SCHEDULERS (it lasts until the scheduler ends the job that
    `label` names). `ended_ms`: its process has ended, but its GPUs are not free yet.
    `label` is a name chosen by the user; it is displayed but not trusted. `warned_ms`: the announced expiry.
    `idle_ms`: the time since when its GPUs are not used; `idle_told_ms`: when that was announced;
    `idle_until_ms`: the announced time of release. `up`: when it began, in clock ticks since the boot `boot`.
    The starts of processes are compared with it, because the time of day can be set. `booking`: the id of the
    booking that it was, if any; `unused_ms`: the time since when that was not used, until it is used.
    """

    id: str
    kind: str
    user: str
    uid: int
    gpus: tuple[int, ...]
    started_ms: Moment
    label: str | None = None
    note: str | None = None
    pid: int | None = None
    start: int | None = None
    timeout_ms: Moment | None = None
    expires_ms: Moment | None = None
    heartbeat_ms: Moment | None = None
    ended_ms: Moment | None = None
    warned_ms: Moment | None = None
    idle_ms: Moment | None = None
    idle_told_ms: Moment | None = None
    idle_until_ms: Moment | None = None
    rev: int = 0  # Grows with every change.
    login_uid: int | None = None  # Who logged in, if root or a service requested it (sudo).
    boot: str | None = None
    up: int | None = None
    booking: str | None = None
    unused_ms: Moment | None = None


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A request in the queue as stored in Redis, for `gpus` or for any `count` of them, of `vendor` if set.

    `profile`: for so many MIG instances of this profile, not for GPUs. `place` orders the queue. `attached`:
    the client is connected; nothing is granted otherwise. `limit`: how many GPUs its user can hold on this
    host. `fleet_limit`: if that follows from the limit of the fleet, this limit; `elsewhere` is what the user
    holds on other hosts, by host.
    """

    id: str
    kind: str
    user: str
    uid: int
    place: int
    queued_ms: Moment
    count: int | None = None
    vendor: Vendor | None = None
    profile: str | None = None
    gpus: tuple[int, ...] | None = None
    label: str | None = None
    note: str | None = None
    pid: int | None = None
    start: int | None = None
    timeout_ms: int | None = None
    duration_ms: int | None = None
    limit: int | None = None
    fleet_limit: int | None = None
    elsewhere: dict[str, int] | None = None
    login_uid: int | None = None
    attached: bool = False

    @property
    def need(self) -> int:
        """The number of GPUs it needs."""
        return len(self.gpus) if self.gpus else self.count or 0


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """The `data` of the reservation events. Times are RFC 3339 in UTC.

    On `created` and `released`, `uuids` are the UUIDs of `gpus`, in the same order. On `released`, `gpus` are
    the GPUs that were released, `kept` those that are still reserved, and `held_s` the seconds since the
    reservation began. `reason` is exited, released, expired, idle, no_show (a booking that was never used),
    lost, unmanaged, undelivered, vanished, admin or stale (the reservation had ended earlier, and older data
    had brought it back). `by` is the user who released it, and `was` the last indices of vanished GPUs. On
    `idle`, `idle` is the time since when it is idle, and `deadline` the time when it will be released for
    that reason, if any. On `disowned`, `disowned` names the users whose use of `gpus` is not the holder's;
    None withdraws that. On `renamed`, `formerly` is the old name of its user. On `labelled`, `label` is new.
    On `widened`, `joined` are the new MIG instances of a GPU that it holds, and `uuids` theirs. `booking` is
    the id of the booking that it was, if any.
    """

    id: str
    kind: str
    user: str
    uid: int
    gpus: tuple[int, ...]
    started: str
    uuids: tuple[str, ...] | None = None
    label: str | None = None
    note: str | None = None
    pid: int | None = None
    queued: str | None = None
    expires: str | None = None
    ended: str | None = None
    released: str | None = None
    held_s: int | None = None
    kept: tuple[int, ...] | None = None
    was: tuple[int, ...] | None = None
    reason: str | None = None
    by: str | None = None
    idle: str | None = None
    deadline: str | None = None
    disowned: tuple[str, ...] | None = None
    formerly: str | None = None
    joined: tuple[int, ...] | None = None
    booking: str | None = None


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """The `data` of the request events. `reason` says why the request left the queue, `by` who cancelled it.

    On `renamed`, `formerly` is the old name of its user. `vendor`: it asks for GPUs of this vendor only.
    `profile`: it asks for MIG instances of this profile.

    A request that is granted makes no event of its own: it becomes the reservation with its id.
    """

    id: str
    kind: str
    user: str
    uid: int
    queued: str
    count: int | None = None
    vendor: Vendor | None = None
    profile: str | None = None
    gpus: tuple[int, ...] | None = None
    label: str | None = None
    note: str | None = None
    pid: int | None = None
    reason: str | None = None  # cancelled, gone, timed-out, impossible
    by: str | None = None
    formerly: str | None = None


class GpuHandling(msgspec.Struct, frozen=True, kw_only=True):
    """The `data` of gpu.drained, undrained, managed, unmanaged and removed: a change to a GPU.

    `by` is the administrator who made it. It is None if the GPU is back in an earlier state, or was removed.
    """

    index: int
    uuid: str
    by: str | None = None
    reason: str | None = None


class Booked(msgspec.Struct, frozen=True, kw_only=True):
    """A booking that has not begun, as stored in Redis. Times are milliseconds of Redis' clock, in UTC.

    It is for any `count` of GPUs, of `vendor` if set, or for those with the UUIDs `cards`. `zone` is the time
    zone in which the user wrote the begin. `late_ms`: since when it is known that it cannot begin in time.
    `reminded_ms`: when its user was reminded. `series`: the id of the bookings that were made together.
    `drain`: it is for maintenance, and this is the reason for which its GPUs are drained while it is open;
    `began_ms`: when they were.
    """

    id: str
    user: str
    uid: int
    count: Count
    begin_ms: Moment
    end_ms: Moment
    created_ms: Moment
    zone: str = ""
    vendor: Vendor | None = None
    cards: tuple[str, ...] | None = None
    label: str | None = None
    note: str | None = None
    login_uid: int | None = None
    late_ms: Moment | None = None
    reminded_ms: Moment | None = None
    series: str | None = None
    drain: str | None = None
    began_ms: Moment | None = None


class Concerned(msgspec.Struct, frozen=True, kw_only=True):
    """A user whom maintenance concerns: their reservation has `gpus` of it, or their booking lacks GPUs."""

    user: str
    uid: int
    reservation: str | None = None
    booking: str | None = None
    gpus: tuple[int, ...] | None = None


class Obstacle(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU that a booking cannot have: `why`, and whose it is. `over`: its reservation should have ended.

    `why` is held, in_use, drained, error, unknown, unmanaged, or divided (into MIG instances).
    """

    gpu: int
    why: str
    users: tuple[str, ...] | None = None
    over: bool = False


class Booking(msgspec.Struct, frozen=True, kw_only=True):
    """The `data` of the booking events. Times are RFC 3339 in UTC; `zone` is the time zone of the request.

    It is for `gpus` if it names them (-1: it is gone), and for any `count` of them otherwise. On `begun`,
    `reservation` is the id of the reservation that it has become, `gpus` are the GPUs of that, and `deadline`
    is when they are released if none of them was used. On `late`, `obstacles` are the GPUs that it cannot
    have. On `missed`, it has ended without having begun: `reason` is late (its GPUs were not free), or off
    (no service was running). `by` is the user who cancelled it. `series` is the id of bookings that were made
    together. With `drain`, it is maintenance: its GPUs are drained for this reason from `begun` to `ended`,
    and `concerned` are the users whom that concerns.
    """

    id: str
    user: str
    uid: int
    count: int
    begin: str
    end: str
    created: str
    zone: str = ""
    vendor: Vendor | None = None
    gpus: tuple[int, ...] | None = None
    uuids: tuple[str, ...] | None = None
    label: str | None = None
    note: str | None = None
    reservation: str | None = None
    started: str | None = None
    deadline: str | None = None
    obstacles: tuple[Obstacle, ...] | None = None
    reason: str | None = None
    by: str | None = None
    series: str | None = None
    drain: str | None = None
    concerned: tuple[Concerned, ...] | None = None


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """What allocation has to know of a booking: the element of the list `windows` in the scan.

    `drain`: it is for maintenance, and this is the reason for which its GPUs are drained; `begun`: they were.
    """

    id: str
    uid: int
    begin_ms: Moment
    end_ms: Moment
    count: Count
    vendor: Vendor | None = None
    cards: tuple[str, ...] | None = None
    drain: str | None = None
    begun: bool = False


def windows_of(text: bytes | None) -> tuple[Window, ...]:
    """Return the promised windows, those that begin first first; none if they cannot be read."""
    try:
        return msgspec.json.decode(text, type=tuple[Window, ...]) if text else ()
    except (msgspec.DecodeError, RecursionError):
        return ()
