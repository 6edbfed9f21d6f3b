"""The error messages for refused requests: one sentence with the reason, and what to do."""

import time
from collections.abc import Collection, Sequence
from typing import Any

from canhazgpu.events.durations import format_duration, spell_length
from canhazgpu.events.gpu import VENDORS
from canhazgpu.events.linux.processes import has_ended
from canhazgpu.events.reservations import KUBERNETES, RUN, SCHEDULERS
from canhazgpu.events.sanitize import LONGEST_WORDS, printable
from canhazgpu.events.spelling.gpu_ranges import name_gpus, spell_ranges, states_of_gpus
from canhazgpu.events.timestamps import local_time, rfc3339
from canhazgpu.service.api.allowance import spell_places
from canhazgpu.service.api.errors import Problem
from canhazgpu.service.identity.hidepid import HIDDEN, REMEDY, hides_others
from canhazgpu.service.reservations.allocator import AllocationRequest
from canhazgpu.service.reservations.script_replies import Blocked, Reserved

# The reasons in the order in which they are listed, with their wording.
WORDS = {
    "in_use": "in use without reservation",
    "held": "reserved",
    "claimed": "claimed by waiting requests",
    "promised": "booked",
    "drained": "drained",
    "error": "in error",
    "unknown": "unknown",
}
MOMENT = "%Y-%m-%d %H:%M"
MOST_PROFILES = 3  # To name.
SHORTEST = 60  # Seconds: times until a booking begins are given in whole minutes.
LOOK = "run 'canhazgpu status' for details"
BOOKED = "run 'canhazgpu bookings' for details"


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
        return _named(reserved, request)
    available = reserved.counts.get("available", 0)
    noun = "MIG instance" if request.profile else "GPU"
    parts = [
        f"{_counted(reserved.counts[kind], noun)} {words}{_why(kind, reserved)}"
        for kind, words in WORDS.items()
        if kind in reserved.counts
    ]
    look = BOOKED if reserved.counts.keys() <= {"available", "promised"} else LOOK
    why = f" ({', '.join(parts)} - {look})" if parts else ""
    what = f"{_kind(request)}{noun}s"
    detail = f"Not enough {what} available. Requested: {reserved.need}, Available: {available}{why}"
    remedy = "; ".join(filter(None, (_remedy(reserved.troubles), _until(reserved, request))))
    return Problem(409, "not-enough-gpus", detail, remedy, counts=reserved.counts)


def _until(reserved: Reserved, request: AllocationRequest) -> str:
    """Return until when a request could have GPUs that are booked, or an empty text."""
    if reserved.until_ms is None or request.kind in SCHEDULERS:
        return ""
    left = int(reserved.until_ms / 1000 - time.time())
    if left < SHORTEST:
        return ""
    option = "--timeout" if request.kind == RUN else "--duration"
    fits = format_duration(left - left % SHORTEST)
    return f"until {local_time(rfc3339(reserved.until_ms), MOMENT)} they are free: add {option} {fits}"


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


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _named(reserved: Reserved, request: AllocationRequest) -> Problem:
    states = states_of_gpus((blocked_gpu.gpu, _state(blocked_gpu)) for blocked_gpu in reserved.blocked)
    detail = f"Not available: {states} - {LOOK}"
    remedy = "; ".join(filter(None, (_remedy(reserved.blocked), _until(reserved, request))))
    return Problem(409, "not-available", detail, remedy, counts=reserved.counts)


def _state(blocked_gpu: Blocked) -> str:
    words = WORDS.get(blocked_gpu.why, blocked_gpu.why)
    if blocked_gpu.why == "held" and blocked_gpu.by:
        return f"{words} by {blocked_gpu.by}"
    if blocked_gpu.reason:
        return f"{words} ({printable(blocked_gpu.reason, LONGEST_WORDS)})"
    return f"{words} by {', '.join(blocked_gpu.users)}" if blocked_gpu.users else words


def _kind(request: AllocationRequest) -> str:
    if request.profile:
        return f"{request.profile} "
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
    if request.profile:
        were = "was" if reserved.need == 1 else "were"
        asked = f"{_counted(reserved.need, 'MIG instance')} {request.profile} {were} requested"
        detail = f"{asked}, but this host has {reserved.managed}"
        return Problem(400, "too-many", detail, _profiles(reserved))
    asked = "1 {}GPU was" if reserved.need == 1 else f"{reserved.need} {{}}GPUs were"
    detail = f"{asked.format(_kind(request))} requested, but this host has {reserved.managed}"
    if reserved.divided:
        detail += " that " + ("is" if reserved.managed == 1 else "are") + " not divided into MIG instances"
        shown = " or ".join(f"--mig {printable(profile)}" for profile in reserved.divided[:MOST_PROFILES])
        return Problem(400, "too-many", detail, f"request instances with {shown}")
    return Problem(400, "too-many", detail, "`canhazgpu status` lists them")


def _profiles(reserved: Reserved) -> str:
    """Return what the host has, for a request of more instances of a profile than that."""
    if reserved.managed:
        return "`canhazgpu status --long` lists them"
    if not reserved.divided:
        return "none of its GPUs is divided into MIG instances"
    found = [printable(profile) for profile in reserved.divided]
    return f"it has {' and '.join(filter(None, (', '.join(found[:-1]), found[-1])))}"


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
    if reply["code"] == "promised":
        are = "is" if len(reply["gpus"]) == 1 else "are"
        detail = f"{name_gpus(reply['gpus'])} {are} needed for a booking that begins before"
        until = local_time(rfc3339(reply["until_ms"]), MOMENT)
        return Problem(409, "booked", detail, f"extend until {until} at the latest")
    detail = "you have no manual reservation"
    return Problem(409, "no-reservation", detail, "make one with `canhazgpu reserve`")
