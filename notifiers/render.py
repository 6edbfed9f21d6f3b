"""The words of a notice: who, which GPUs, since when, how much memory, which processes, what to type."""

from collections.abc import Iterable

from canhazgpu.events.notices import Notice
from canhazgpu.events.text import printable
from canhazgpu.events.violations import Violation

SHOWN_PROCESSES = 8
REASONS = {
    "stopped": "the processes have ended",
    "reserved": "the GPU is reserved now",
    "exempted": "the use was exempted",
}


def subject(notice: Notice) -> str:
    """Return one line: what happened, on which host, on which GPUs."""
    host, user, gpus = printable(notice.host), printable(notice.user), _gpus(notice)
    what = {
        "opened": f"{user} uses {gpus} without a reservation",
        "changed": f"{user} uses {gpus} without a reservation",
        "reminder": f"{user} still uses {gpus} without a reservation",
        "resolved": f"resolved: {user} no longer uses {gpus} without a reservation",
        "released": f"your reservation of {gpus} was released",
        "unreserved": f"your run goes on without a reservation of {gpus}",
        "timeout": f"the time of your run on {gpus} is over",
        "test": "a test message",
    }[notice.kind]
    return f"[canhazgpu {host}] {what}"


def headline(notice: Notice) -> str:
    """Return the first line as the person reads it, ending with the notice's id in brackets."""
    host, user, gpus = printable(notice.host), printable(notice.user), _gpus(notice)
    what = {
        "opened": f"{user}, you are using {gpus} without a reservation.",
        "changed": f"{user}, you are now using {gpus} without a reservation.",
        "reminder": f"{user}, you are still using {gpus} without a reservation.",
        "resolved": f"{user}, resolved: you no longer use {gpus} without a reservation.",
        "released": f"{user}, your reservation of {gpus} was released by {_by(notice)}.",
        "unreserved": f"{user}, your run goes on, but {gpus} is no longer reserved for it.",
        "timeout": f"{user}, the time of your run on {gpus} is over: it is interrupted now.",
        "test": f"{user}, this is a test message. It works.",
    }[notice.kind]
    return f"canhazgpu on {host}: {what} [{notice.notice}]"


def lines(notice: Notice) -> list[str]:
    """Return the whole notice for the person, as lines without control characters."""
    if notice.kind == "test":
        return [headline(notice)]
    if notice.reservation:
        return [headline(notice), *_reservation(notice)]
    if notice.kind == "resolved":
        return [headline(notice), *map(_ended, notice.violations), "Thank you."]
    return [headline(notice), *_details(notice), *_remedies(notice)]


def report(notice: Notice) -> list[str]:
    """Return the whole notice for administrators, who are not the ones to act."""
    if notice.kind == "test" or notice.reservation:
        return [headline(notice)]
    told = f"{notice.person} is told too" if notice.person else "no person is proven; only you are told"
    if notice.kind == "resolved":
        return [subject(notice), *map(_ended, notice.violations)]
    return [subject(notice), *_details(notice), f"Whose it is: {printable(notice.user)} ({told})."]


def _details(notice: Notice) -> list[str]:
    return [line for violation in notice.violations for line in _detail(violation)]


def _detail(violation: Violation) -> Iterable[str]:
    held = f", which {printable(violation.holder)} has reserved" if violation.holder else ""
    name = printable(violation.gpu_name)
    since = moment(violation.since)
    yield f"  GPU {violation.gpu} ({name}){held}: {violation.memory_mb}MB used since {since} by"
    for process in violation.processes[:SHOWN_PROCESSES]:
        container = process.container
        inside = (
            f" in {printable(container.runtime)} container {printable(container.id, 13)}" if container else ""
        )
        memory = "memory unknown" if process.memory_mb is None else f"{process.memory_mb}MB"
        yield f"    PID {process.pid} ({printable(process.name)}), {memory}{inside}"
    more = len(violation.processes) - SHOWN_PROCESSES
    if more > 0:
        yield f"    and {more} more"
    if not violation.processes:
        yield "    no process that can be seen"


def _remedies(notice: Notice) -> list[str]:
    pids = sorted({process.pid for one in notice.violations for process in one.processes})
    count = len({violation.gpu for violation in notice.violations})
    return [
        "To put it right, do one of these:",
        f"  kill {' '.join(map(str, pids[:SHOWN_PROCESSES]))}" if pids else "  end the processes",
        f"  canhazgpu reserve --gpus {count}",
        "To see who uses what: canhazgpu status",
    ]


def _by(notice: Notice) -> str:
    return printable(notice.reservation.by or "an administrator") if notice.reservation else ""


def _reservation(notice: Notice) -> Iterable[str]:
    held = notice.reservation
    if held is None:
        return
    bound = f"run as PID {held.pid}" if held.pid else "reserved by hand"
    note = f" ({printable(held.note, 200)})" if held.note else ""
    yield f"  {_gpus(notice)}, {bound}, since {moment(held.started)}{note}"
    if notice.kind == "unreserved":
        yield f"To stop it: kill {held.pid}"
    yield "To see who uses what: canhazgpu status"


def _ended(violation: Violation) -> str:
    why = REASONS.get(violation.reason or "", "it is over")
    return f"  GPU {violation.gpu}: {moment(violation.since)} to {moment(violation.closed or '')}, {why}"


def _gpus(notice: Notice) -> str:
    numbers = sorted({violation.gpu for violation in notice.violations})
    if notice.reservation:
        numbers = sorted(notice.reservation.gpus)
    if len(numbers) == 1:
        return f"GPU {numbers[0]}"
    return f"GPUs {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}" if numbers else "no GPU"


def moment(time: str) -> str:
    """Return `2026-11-24 09:15:47 UTC` for an RFC 3339 time in UTC."""
    return f"{time[:10]} {time[11:19]} UTC" if time[10:11] == "T" else "an unknown time"
