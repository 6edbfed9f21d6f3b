"""The bodies of API requests. They are validated here; the allocator decides about them."""

import re
import unicodedata
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from canhazgpu.config.settings import Settings
from canhazgpu.events.durations import parse_duration, spell_length
from canhazgpu.events.gpu import Vendor
from canhazgpu.events.sanitize import LONGEST_WORDS, NAME_LIMIT, UUID_START
from canhazgpu.events.spelling.gpu_numbers import MOST_INDEX
from canhazgpu.service.api.errors import Problem
from canhazgpu.service.identity.peer import Peer
from canhazgpu.service.identity.user_names import Users

MOST_GPUS = 1024
INSTANCE = "[0-9]{1,4}:[0-9]{1,4}"
Index = Annotated[int, Meta(ge=0, lt=MOST_INDEX)]
Uuid = Annotated[str, Meta(pattern=rf"^({INSTANCE}|{UUID_START})$(?!\n)")]
Profile = Annotated[str, Meta(pattern=r"^[0-9a-z.+-]{1,32}$(?!\n)")]
Gpus = Annotated[list[Index | Uuid], Meta(min_length=1, max_length=MOST_GPUS)]
Name = Annotated[str, Meta(max_length=NAME_LIMIT)]
Names = Annotated[list[Name], Meta(min_length=1, max_length=MOST_GPUS)]
Words = Annotated[str, Meta(max_length=LONGEST_WORDS)]
Reason = Annotated[str, Meta(min_length=1, max_length=LONGEST_WORDS)]
Label = Annotated[str, Meta(min_length=1, max_length=NAME_LIMIT)]
Channel = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,63}(:[a-z0-9_-]{1,64})?$(?!\n)")]
# One alphabet only, so that letters cannot be confused, and no parentheses as in `name (label)`.
LABEL = re.compile("[A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u017e0-9 ._@+:/-]+")
LETTERS = "Latin letters, digits 0 to 9, spaces and . _ - @ + : /"
SchedulerKind = Literal["slurm", "pbs", "kubernetes"]
Zone = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_+/.-]{0,64}$(?!\n)")]  # As in the database of time zones.
JobName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._+\[\]-]{1,96}$(?!\n)")]
Devices = Annotated[list[Annotated[int, Meta(ge=0, lt=2**20)]], Meta(min_length=1, max_length=MOST_GPUS)]
Operation = Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{1,64}$(?!\n)")]


class OperationRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of all requests: an operation id makes it safe to repeat them."""

    operation: Operation | None = None


class ReserveRequest(OperationRequest, frozen=True, kw_only=True):
    """A request for any `count` of GPUs, or exactly for `gpus`. Durations are strings such as `4h`.

    `gpus` are indices, beginnings of UUIDs, MIG instances such as `0:1`, or "all" that are managed. With
    `profile`, `count` is a number of MIG instances of this profile.
    `wait`: true, false, a maximum time, or by default as configured. `request` is the id of a request that is
    already waiting. The user and the process are taken from the socket. `within` is the reservation that the
    caller's environment names, and `job` the scheduler's job. With `use_held`, a run uses what that has, or
    else a manual reservation of the same user if it fits, instead of a new one. A reservation has GPUs of one
    `vendor`; by default of the only one there is, or else of the one in the settings.
    """

    kind: Literal["run", "manual"]
    count: Annotated[int, Meta(ge=1, le=MOST_GPUS)] | None = None
    vendor: Vendor | None = None
    profile: Profile | None = None
    gpus: Gpus | Literal["all"] | None = None
    duration: Words | None = None
    timeout: Words | None = None
    wait: bool | Words | None = None
    label: Label | None = None
    note: Words | None = None
    request: Name | None = None
    within: Name | None = None
    job: JobName | None = None
    use_held: bool = False


class JobRequest(OperationRequest, frozen=True, kw_only=True):
    """Reserve GPUs for a job of a scheduler, on behalf of its user, until the job ends; only for root.

    `job` is the scheduler's id for it. Either `devices` or `gpus` names its GPUs: `devices` are the numbers
    of device files, the N of /dev/nvidiaN, and `gpus` are indices or UUIDs. A job has one reservation: if it
    has these GPUs already, the answer is the same. `wait` and `request` are as for other reservations.
    """

    kind: SchedulerKind
    job: JobName
    uid: Annotated[int, Meta(ge=0, lt=2**32)]
    devices: Devices | None = None
    gpus: Gpus | None = None
    wait: bool | Words = False
    request: Name | None = None


class JobEndRequest(OperationRequest, frozen=True, kw_only=True):
    """End the reservations of a job, or those with `ids`; only for root. It is no error if there are none."""

    kind: SchedulerKind
    job: JobName | None = None
    ids: Names | None = None


class JobLabelRequest(OperationRequest, frozen=True, kw_only=True):
    """Label a reservation of a scheduler with the `job` that it turned out to be for; only for root."""

    kind: SchedulerKind
    id: Name
    job: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._+/-]{1,64}$(?!\n)")]


class ContainerRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask whether a container may start on GPUs; it changes nothing.

    `names`: `all`, indices, UUIDs. `devices`: numbers of device files, the N of /dev/nvidiaN. `every`: the
    container can open any GPU. `narrow`: the caller can give it fewer GPUs. `token`: the
    CANHAZGPU_TOKEN of the run that started it. `daemon`: the caller is a runtime that starts containers for
    anybody.
    """

    id: Words = ""
    names: Annotated[list[Words], Meta(max_length=MOST_GPUS)] = []
    devices: Annotated[list[Annotated[int, Meta(ge=0, lt=2**20)]], Meta(max_length=MOST_GPUS)] = []
    every: bool = False
    narrow: bool = False
    token: Words | None = None
    daemon: bool = False


class ReleaseRequest(OperationRequest, frozen=True, kw_only=True):
    """Release the caller's manual reservations; `all`: also those of runs; `gpus`: those with these GPUs.

    `ids`: exactly these reservations; it is no error if one has already ended.
    """

    gpus: Gpus | None = None
    ids: Names | None = None
    all: bool = False


class CancelRequest(OperationRequest, frozen=True, kw_only=True):
    """Cancel waiting requests of the caller or, for administrators, of `user`.

    `ids`: these, or those that begin like that; `all`: all of them; by default the only one.
    """

    ids: Names | None = None
    user: Label | None = None
    all: bool = False


class DisownRequest(OperationRequest, frozen=True, kw_only=True):
    """Disown the presumed use of the caller's GPUs, or of `gpus`; `undo` reverts this."""

    gpus: Gpus | None = None
    undo: bool = False


class AdminReleaseRequest(OperationRequest, frozen=True, kw_only=True):
    """Release the reservations on these GPUs, those of `user`, or those of all users (`all`)."""

    gpus: Gpus | None = None
    user: Label | None = None
    all: bool = False


class ExtendRequest(OperationRequest, frozen=True, kw_only=True):
    """Extend the caller's manual reservations, or those with `gpus`, by `duration`."""

    gpus: Gpus | None = None
    duration: Words | None = None


class DrainRequest(OperationRequest, frozen=True, kw_only=True):
    """Drain or undrain GPUs; `reason` is only for draining."""

    gpus: Gpus | Literal["all"]
    reason: Words | None = None


class ManageRequest(OperationRequest, frozen=True, kw_only=True):
    """Set the managed GPUs: the first `count`, exactly `gpus`, or by default all of them."""

    count: Annotated[int, Meta(ge=1, le=MOST_GPUS)] | None = None
    gpus: Gpus | None = None
    force: bool = False


class SilenceRequest(OperationRequest, frozen=True, kw_only=True):
    """Silence the violations that match `user`, `gpu` and `process`, as far as set, `for` a time."""

    for_: Words = field(name="for")
    reason: Reason
    user: Label | None = None
    gpu: Index | Uuid | None = None
    process: Label | None = None


class AckRequest(OperationRequest, frozen=True, kw_only=True):
    """Acknowledge the caller's open violations, `for` a time, or by default for the longest allowed time."""

    for_: Words | None = field(name="for", default=None)
    reason: Words | None = None


class UnsilenceRequest(OperationRequest, frozen=True, kw_only=True):
    """End a silence."""


class TestNoticeRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Send a test notice through one channel, to the caller, or (administrators only) to anybody."""

    channel: Channel
    to: Words | None = None


def has_time_limit(settings: Settings) -> bool:
    """Return whether the settings limit anybody's time."""
    limits = settings.limits
    return bool(limits.max_duration) or any(own.max_duration for own in limits.users.values())


def seconds(text: str, what: str) -> float:
    """Return a positive duration. Raises Problem."""
    try:
        found = parse_duration(text)
    except ValueError as error:
        raise Problem(400, "bad-request", f"{what}: {error}") from error
    if found < 1:
        raise Problem(400, "bad-request", f"{what}: '{text}' is too short: use at least 1s")
    return found


def duration_of(text: str | None, default: float | None, longest: float | None, what: str) -> float | None:
    """Return a duration within the user's limit; a default is reduced to the limit. Raises Problem."""
    if text is None:
        bounds = [value for value in (default, longest) if value is not None]
        return min(bounds) if bounds else None
    found = seconds(text, what)
    if longest is not None and found > longest:
        most = spell_length(longest)
        raise Problem(403, "too-long", f"{what}: {text} exceeds your limit of {most}")
    return found


async def label_of(label: str | None, peer: Peer, users: Users, *, admin: bool) -> str | None:
    """Return a label that is allowed: it must not be the name of another user of the host, or look like one.

    Raises Problem.
    """
    if label is None:
        return None
    label = unicodedata.normalize("NFC", label)
    if not label.strip() or not LABEL.fullmatch(label):
        raise Problem(400, "bad-request", f"label (--user): only {LETTERS} are allowed")
    plain = label.strip()
    for name in (plain, plain.casefold()):
        if not admin and await users.uid_of(name) not in (None, peer.uid):
            raise Problem(
                403, "not-your-name", f"{name} is another user of this host", "choose another label"
            )
    return plain
