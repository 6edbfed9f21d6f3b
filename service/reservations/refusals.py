"""The error messages for refused requests: one sentence with the reason, and what to do."""

from collections.abc import Collection, Sequence
from typing import Any

from canhazgpu.events.durations import spell_length
from canhazgpu.events.gpu import VENDORS
from canhazgpu.events.linux.processes import has_ended
from canhazgpu.events.reservations import KUBERNETES, SCHEDULERS
from canhazgpu.events.sanitize import LONGEST_WORDS, printable
from canhazgpu.events.spelling.gpu_ranges import spell_ranges, states_of_gpus
from canhazgpu.service.api.allowance import spell_places
from canhazgpu.service.api.errors import Problem
from canhazgpu.service.identity.hidepid import HIDDEN, REMEDY, hides_others
from canhazgpu.service.reservations.allocator import AllocationRequest, Blocked, Reserved

# The reasons in the order in which they are listed, with their wording.
WORDS = {
    "in_use": "in use without reservation",
    "held": "reserved",
    "claimed": "claimed by waiting requests",
    "drained": "drained",
    "error": "in error",
    "unknown": "unknown",
}
LOOK = "run 'canhazgpu status' for details"


def not_visible(process: int | None) -> Problem:
    """Return the problem that the service cannot identify the process of a run; `process` is its pidfd."""
    if process is not None and has_ended(process):
        return Problem(409, "process-not-visible", "your process has ended")
    if hides_others():
        remedy = f"{REMEDY}; until then, use `canhazgpu reserve`"
        return Problem(409, "process-not-visible", f"the service cannot see your process: {HIDDEN}", remedy)
    remedy = "in a container with its own PID namespace, use `canhazgpu reserve` on the host"
    return Problem(409, "process-not-visible", "the service cannot see your process", remedy)


def refusal(reserved: Reserved, request: AllocationRequest) -> Problem:
    """Return the reason why a request for GPUs was refused."""
    if reserved.code == "never":
        return _never(reserved, request)
    if reserved.code == "limit":
        return _over_limit(reserved, request)
    if reserved.code == "gone":
        return Problem(409, "request-gone", "the request is no longer in the queue", "submit it again")
    if request.gpus is not None:
        return _named(reserved)
    available = reserved.counts.get("available", 0)
    parts = [
        f"{_gpus(reserved.counts[kind])} {words}{_why(kind, reserved)}"
        for kind, words in WORDS.items()
        if kind in reserved.counts
    ]
    why = f" ({', '.join(parts)} - {LOOK})" if parts else ""
    detail = (
        f"Not enough {_kind(request)}GPUs available. Requested: {reserved.need}, Available: {available}{why}"
    )
    return Problem(409, "not-enough-gpus", detail, _remedy(reserved.troubles), counts=reserved.counts)


def _over_limit(reserved: Reserved, request: AllocationRequest) -> Problem:
    remedy = "release some first, or wait with --wait"
    if request.fleet_limit is None:
        many = f"You can hold {request.limit} GPU(s) at a time, and hold too many to get {reserved.need} more"
        return Problem(409, "limit", many, remedy)
    elsewhere = request.elsewhere or {}
    places = spell_places(reserved.held, elsewhere)
    detail = (
        f"You can hold {request.fleet_limit} GPU(s) in the fleet at a time, and hold too many to get"
        f" {reserved.need} more: {places}"
    )
    return Problem(409, "limit", detail, remedy, hosts=elsewhere)


def _why(kind: str, reserved: Reserved) -> str:
    """Return the distinct reasons for GPUs of this kind."""
    reasons = dict.fromkeys(
        blocked_gpu.reason
        for blocked_gpu in reserved.troubles
        if blocked_gpu.why == kind and blocked_gpu.reason
    )
    return f": {'; '.join(printable(reason, LONGEST_WORDS) for reason in reasons)}" if reasons else ""


def _remedy(troubles: Sequence[Blocked]) -> str:
    remedies = dict.fromkeys(blocked_gpu.remedy for blocked_gpu in troubles if blocked_gpu.remedy)
    return "; ".join(printable(remedy, LONGEST_WORDS) for remedy in remedies)


def _gpus(count: int) -> str:
    return f"{count} GPU{'' if count == 1 else 's'}"


def _named(reserved: Reserved) -> Problem:
    states = states_of_gpus((blocked_gpu.gpu, _state(blocked_gpu)) for blocked_gpu in reserved.blocked)
    detail = f"Not available: {states} - {LOOK}"
    return Problem(409, "not-available", detail, _remedy(reserved.blocked), counts=reserved.counts)


def _state(blocked_gpu: Blocked) -> str:
    words = WORDS.get(blocked_gpu.why, blocked_gpu.why)
    if blocked_gpu.why == "held" and blocked_gpu.by:
        return f"{words} by {blocked_gpu.by}"
    if blocked_gpu.reason:
        return f"{words} ({printable(blocked_gpu.reason, LONGEST_WORDS)})"
    return f"{words} by {', '.join(blocked_gpu.users)}" if blocked_gpu.users else words


def _kind(request: AllocationRequest) -> str:
    return f"{VENDORS[request.vendor]} " if request.vendor else ""


def _never(reserved: Reserved, request: AllocationRequest) -> Problem:
    for blocked_gpu in reserved.troubles:
        detail = f"The GPUs of this host could not be read: {blocked_gpu.reason}"
        return Problem(409, "no-gpu-read", detail, blocked_gpu.remedy or "")
    if reserved.missing:
        return _no_such_gpu(reserved.missing)
    if reserved.limit is not None and reserved.need > reserved.limit:
        where = " in the fleet" if reserved.limit == request.fleet_limit else ""
        many = f"you can hold {reserved.limit} GPU(s){where} at a time, not {reserved.need}"
        return Problem(409, "limit", many)
    detail = f"{reserved.need} {_kind(request)}GPUs were requested, but this host has {reserved.managed}"
    return Problem(400, "too-many", detail, "`canhazgpu status` lists them")


def _no_such_gpu(missing: Sequence[int]) -> Problem:
    detail = f"there is no GPU {spell_ranges(missing)} on this host, or it is not managed"
    return Problem(400, "no-such-gpu", detail, "`canhazgpu status` lists them")


def not_yours(blocked: Sequence[Blocked], verb: str, known: Collection[int]) -> Problem:
    """Return the problem that GPUs are held by somebody else, not reserved, or not `known`."""
    missing = [
        blocked_gpu.gpu
        for blocked_gpu in blocked
        if known and not blocked_gpu.by and blocked_gpu.gpu not in known
    ]
    if missing:
        return _no_such_gpu(missing)
    states = states_of_gpus((blocked_gpu.gpu, _whose(blocked_gpu, verb)) for blocked_gpu in blocked)
    other = any(blocked_gpu.by for blocked_gpu in blocked)
    detail = f"{states}: nothing was changed"
    return Problem(403 if other else 409, "not-yours", detail, f"you can {verb} only your own reservations")


def _whose(blocked_gpu: Blocked, verb: str) -> str:
    if blocked_gpu.kind == "run" and verb == "extend":
        return f"held by a run of {blocked_gpu.by}, which lasts as long as its process"
    if blocked_gpu.kind == KUBERNETES:
        return "reserved for a pod, and released when the pod ends"
    if blocked_gpu.kind in SCHEDULERS:
        return f"reserved for a job of {blocked_gpu.by}, and released when the job ends"
    if blocked_gpu.another_login:
        return f"reserved by {blocked_gpu.by} in another login (sudo)"
    return f"reserved by {blocked_gpu.by}" if blocked_gpu.by else "not reserved"


def not_extended(reply: dict[str, Any]) -> Problem:
    """Return the problem that reservations cannot be extended."""
    if reply["code"] == "limit":
        left, most = (spell_length(reply[name] / 1000) for name in ("left_ms", "most_ms"))
        detail = f"the reservation would exceed your limit of {most}; {left} are left"
        return Problem(403, "too-long", detail, "extend it by less")
    detail = "you have no manual reservation"
    return Problem(409, "no-reservation", detail, "make one with `canhazgpu reserve`")
