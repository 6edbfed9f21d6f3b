"""The wording of notices to administrators about failures, and of the digest."""

import shlex

from canhazgpu.events.notices import Digest, Incident
from canhazgpu.events.reservations import RUN, Reservation
from canhazgpu.events.sanitize import printable
from canhazgpu.events.spelling.gpu_numbers import spell_gpu
from canhazgpu.notifiers.messages.content import Commands, Content, Part, Sentence, Table
from canhazgpu.notifiers.messages.phrases import (
    capitalised,
    counted,
    joined,
    length,
    listed,
    moment,
    safe_text,
    stamp,
)

Row = tuple[str, str]
OVER = ("resumed", "gpu-recovered", "channel-recovered")
MOST_ROWS = 50


def describe_incident(kind: str, incident: Incident) -> Content:
    """Return the content of stalled, gpu-failed and channel-failing notices, and of their resolutions."""
    part, _, name = printable(incident.subject).partition("/")
    if part == "gpu" and name.isdecimal():
        name = spell_gpu(int(name))
    reason, since = safe_text(incident.reason) or "unknown reason", moment(incident.since)
    what = {
        "stalled": "scanning has stopped",
        "resumed": "scanning is working again",
        "gpu-failed": f"GPU {name} has failed",
        "gpu-recovered": f"GPU {name} is working again",
        "channel-failing": f"delivery by {name} is failing",
        "channel-recovered": f"delivery by {name} is working again",
    }[kind]
    if kind in OVER:
        lasted = length(incident.since, incident.ended)
        span = f"from {since} to {moment(incident.ended)}" if incident.ended else f"since {since}"
        say = f"The problem lasted {f'{lasted}, ' if lasted else ''}{span}: {reason}."
        return Content(
            subject=what, headline=f"{capitalised(what, '')}.", parts=(Sentence(say),), mood="good"
        )
    begin = {
        "stalled": "Scanning stopped at",
        "gpu-failed": f"GPU {name} failed at",
        "channel-failing": f"Delivery by {name} has been failing since",
    }[kind]
    remedy: list[Part] = [Sentence(f"{safe_text(incident.remedy)}.")] if incident.remedy else []
    meaning, rows = _meaning(part, name, found=not reason.startswith("not found"))
    return Content(
        subject=what,
        headline=f"{begin} {since}: {reason}.",
        parts=(*remedy, Sentence(meaning), Commands("", tuple(rows), aside=True)),
        mood="bad",
    )


def _meaning(part: str, name: str, *, found: bool) -> tuple[str, list[Row]]:
    doctor = ("To check this host", "canhazgpu doctor")
    quoted = shlex.quote(name)
    if part == "gpu":
        drain = f"canhazgpu admin drain {quoted} --reason 'GPU failure'"
        return "It is not allocated until it recovers. Processes on it are not affected.", [
            ("To examine it", f"nvidia-smi -q -i {quoted}")
            if found
            else ("To list the GPUs that the driver finds", "nvidia-smi -L"),
            ("To keep it unavailable after it recovers", drain),
            doctor,
        ]
    if part == "channel":
        return "Notices are retried for a day. Other channels are not affected.", [
            ("To test it", f"canhazgpu notify test --channel {quoted}"),
            ("To list undelivered notices", "canhazgpu deadletters list"),
            doctor,
        ]
    return "Until it works again, no GPU is allocated and no use is detected. Running processes continue.", [
        ("To read the service's log", "journalctl -u canhazgpu --since -1h"),
        doctor,
    ]


def describe_digest(digest: Digest) -> Content:
    """Return the content of a digest."""
    number = sum(one.violations for one in digest.users)
    what = (
        f"{counted(number, 'violation')} by {counted(len(digest.users), 'user')}" if number else "all quiet"
    )
    span = f"from {moment(digest.since)} to {moment(digest.until)}"
    parts = [
        *_repeaters(digest),
        *_users(digest),
        *_idle(digest),
        *_failures(digest),
        *_incidents(digest),
    ]
    quiet: list[Part] = (
        [] if parts else [Sentence("There were no violations, no idle reservations and no failures.")]
    )
    return Content(
        subject=f"digest: {what}",
        headline=f"{capitalised(what, '')}{',' if number else ''} {span}.",
        parts=(*quiet, *parts, *_closer(digest)),
    )


def _closer(digest: Digest) -> list[Part]:
    rows = []
    if digest.users:
        span = f"--since {stamp(digest.since)} --until {stamp(digest.until)}"
        rows.append(("To see each violation", f"canhazgpu violations {span}"))
    if digest.failures:
        rows.append(("To list undelivered notices", "canhazgpu deadletters list"))
    return [Commands("", tuple(rows), aside=True)] if rows else []


def _repeaters(digest: Digest) -> list[Part]:
    hours = sum(one.gpu_hours for one in digest.users)
    unreached = sum(one.unreached for one in digest.users)
    said = [f"{hours:.1f} GPU-hours were used without a valid reservation."] if digest.users else []
    if digest.repeaters:
        said.append(f"Repeat offenders: {joined([printable(one) for one in digest.repeaters])}.")
    if unreached:
        said.append(
            f"{counted(unreached, 'violation')} could not be reported to the user:"
            " please contact them yourself."
        )
    return [Sentence(" ".join(said))] if said else []


def _users(digest: Digest) -> list[Part]:
    rows = [
        (
            printable(one.user),
            str(one.violations),
            f"{one.gpu_hours:.1f}",
            str(one.open or "-"),
            str(one.unreached or "-"),
        )
        for one in digest.users[:MOST_ROWS]
    ]
    columns = ("User", "Violations", "GPU-hours", "Still open", "Not notified")
    return [Table("Use without a reservation:", columns, tuple(rows))] if rows else []


def _idle(digest: Digest) -> list[Part]:
    rows = [_idle_row(one) for one in digest.idle[:MOST_ROWS]]
    return [Table("Idle reservations:", ("User", "GPUs", "Kind", "Idle since"), tuple(rows))] if rows else []


def _idle_row(one: Reservation) -> tuple[str, ...]:
    kind = "run" if one.kind == RUN else "manual"
    return printable(one.user), listed(one.gpus), kind, moment(one.idle)


def _failures(digest: Digest) -> list[Part]:
    rows = [(printable(name), str(count)) for name, count in sorted(digest.failures.items())][:MOST_ROWS]
    return [Table("Undelivered notices:", ("Channel", "Count"), tuple(rows))] if rows else []


def _incidents(digest: Digest) -> list[Part]:
    rows = [
        (
            printable(one.subject),
            moment(one.since),
            length(one.since, one.ended) or "ongoing",
            safe_text(one.reason),
        )
        for one in digest.incidents[:MOST_ROWS]
    ]
    return [Table("Failures:", ("Component", "Since", "Duration", "Reason"), tuple(rows))] if rows else []
