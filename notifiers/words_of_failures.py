"""The words about what failed by itself, and the summary of a time, to administrators."""

import shlex

from canhazgpu.events.notices import Digest, Incident
from canhazgpu.events.reservations import RUN, Reservation
from canhazgpu.events.text import printable
from canhazgpu.notifiers.account import Account, Commands, Part, Sentence, Table
from canhazgpu.notifiers.phrases import counted, joined, length, listed, moment, opening, stamp, words_of

Row = tuple[str, str]
OVER = ("resumed", "gpu-recovered", "channel-recovered")
MOST_ROWS = 50


def describe_incident(kind: str, incident: Incident) -> Account:
    """Return the words of stalled, gpu-failed and channel-failing, and of their ends."""
    part, _, name = printable(incident.subject).partition("/")
    reason, since = words_of(incident.reason) or "no reason is known", moment(incident.since)
    what = {
        "stalled": "scanning has stopped",
        "resumed": "scanning works again",
        "gpu-failed": f"GPU {name} has failed",
        "gpu-recovered": f"GPU {name} works again",
        "channel-failing": f"notices by {name} do not arrive",
        "channel-recovered": f"notices by {name} arrive again",
    }[kind]
    if kind in OVER:
        lasted = length(incident.since, incident.ended)
        span = f"from {since} to {moment(incident.ended)}" if incident.ended else f"from {since} on"
        say = f"The trouble lasted {f'for {lasted}, ' if lasted else ''}{span}: {reason}."
        return Account(subject=what, headline=f"{opening(what, '')}.", parts=(Sentence(say),), mood="good")
    remedy: list[Part] = [Sentence(f"{words_of(incident.remedy)}.")] if incident.remedy else []
    meaning, rows = _meaning(part, name, found=not reason.startswith("not found"))
    return Account(
        subject=what,
        headline=f"{opening(what, '')}, since {since}: {reason}.",
        parts=(*remedy, Sentence(meaning), Commands("", tuple(rows), aside=True)),
        mood="bad",
    )


def _meaning(part: str, name: str, *, found: bool) -> tuple[str, list[Row]]:
    doctor = ("To see what works on this host", "canhazgpu doctor")
    quoted = shlex.quote(name)
    if part == "gpu":
        drain = f"canhazgpu admin drain {quoted} --reason 'it fails'"
        return "It is not handed out while it fails; what runs on it goes on.", [
            ("To look at it", f"nvidia-smi -q -i {quoted}")
            if found
            else ("To see what the driver finds", "nvidia-smi -L"),
            ("To keep it out when it comes back", drain),
            doctor,
        ]
    if part == "channel":
        return "Its notices are kept and tried again for a day; other channels go on.", [
            ("To try it", f"canhazgpu notify test --channel {quoted}"),
            ("To see what was given up on", "canhazgpu deadletters list"),
            doctor,
        ]
    return "No GPU is handed out and no use is seen until it works again; what runs goes on.", [
        ("To read what the service says", "journalctl -u canhazgpu --since -1h"),
        doctor,
    ]


def describe_digest(digest: Digest) -> Account:
    """Return the words of a summary."""
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
    quiet: list[Part] = [] if parts else [Sentence("No violation, no idle reservation, and nothing failed.")]
    return Account(
        subject=f"digest: {what}",
        headline=f"{opening(what, '')}, {span}.",
        parts=(*quiet, *parts, *_closer(digest)),
    )


def _closer(digest: Digest) -> list[Part]:
    rows = []
    if digest.users:
        span = f"--since {stamp(digest.since)} --until {stamp(digest.until)}"
        rows.append(("To see each violation", f"canhazgpu violations {span}"))
    if digest.failures:
        rows.append(("To see what was given up on", "canhazgpu deadletters list"))
    return [Commands("", tuple(rows), aside=True)] if rows else []


def _repeaters(digest: Digest) -> list[Part]:
    hours = sum(one.gpu_hours for one in digest.users)
    unreached = sum(one.unreached for one in digest.users)
    said = [f"{hours:.1f} GPU-hours were used without the right to them."] if digest.users else []
    if digest.repeaters:
        said.append(f"Again and again: {joined([printable(one) for one in digest.repeaters])}.")
    if unreached:
        said.append(f"Of {counted(unreached, 'violation')} nobody could be told: please tell them yourself.")
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
    columns = ("User", "Violations", "GPU-hours", "Still open", "Not told")
    return [Table("Use without a reservation:", columns, tuple(rows))] if rows else []


def _idle(digest: Digest) -> list[Part]:
    rows = [_idle_row(one) for one in digest.idle[:MOST_ROWS]]
    return (
        [Table("Reserved and not used:", ("User", "GPUs", "Kind", "Idle since"), tuple(rows))] if rows else []
    )


def _idle_row(one: Reservation) -> tuple[str, ...]:
    kind = "run" if one.kind == RUN else "by hand"
    return printable(one.user), listed(one.gpus), kind, moment(one.idle)


def _failures(digest: Digest) -> list[Part]:
    rows = [(printable(name), str(count)) for name, count in sorted(digest.failures.items())][:MOST_ROWS]
    return [Table("Notices that did not arrive:", ("Channel", "Given up"), tuple(rows))] if rows else []


def _incidents(digest: Digest) -> list[Part]:
    rows = [
        (
            printable(one.subject),
            moment(one.since),
            length(one.since, one.ended) or "goes on",
            words_of(one.reason),
        )
        for one in digest.incidents[:MOST_ROWS]
    ]
    return [Table("What failed:", ("What", "Since", "For", "Reason"), tuple(rows))] if rows else []
