"""Describes each event of a violation in one sentence. Text from users is made safe to print here."""

from canhazgpu.events.durations import spell_length
from canhazgpu.events.notices import ADMINS, HOLDER, OFFENDER, Delivery
from canhazgpu.events.sanitize import printable
from canhazgpu.events.silences import ENDED, Silence
from canhazgpu.events.spelling.gpu_numbers import spell_gpu
from canhazgpu.events.timestamps import local_time
from canhazgpu.events.violations import CLOSED, OPENED, Signalled, Violation
from canhazgpu.service.violations.responses import NoticeFacts

SHOWN = 3  # Processes listed; the rest are counted.
LONGEST = 400
RIGHTS = {"unreserved": " without a reservation", "overstaying": " after their reservation ended"}
ENDS = {
    "stopped": "none of their processes is left on the GPU",
    "reserved": "the GPU is reserved for them now",
    "vanished": "the GPU is gone",
    "exempted": "the settings exempt it now",
}
NOTICES = {
    "opened": "First notice for {}",
    "changed": "Notice for {} about a change",
    "reminder": "Reminder for {}",
    "resolved": "Notice for {} that it was resolved",
    "terminate": "Order to terminate the processes of {}",
}
OUTCOMES = {
    "delivered": "delivered",
    "unproven": "sent, but it is not known whether it arrived",
    "retry": "failed for now, will be retried",
    "failed": "failed permanently",
    "refused": "refused",
    "stuck": "the terminal accepts no output",
    "gone": "it no longer exists",
    "skipped": "skipped",
    "nobody": "no recipient",
    "dry-run": "dry run, nothing was sent",
}


def describe_fact(kind: str, one: Violation, before: Violation | None = None) -> str:
    """Return the sentence about an opened, updated or closed event; `before` is the previous one."""
    if kind == CLOSED:
        why = ENDS.get(one.reason or "", one.reason or "unknown reason")
        return _sentence(f"It ended after {spell_length(one.duration_s or 0)}: {why}")
    if kind == OPENED:
        right = f", which {one.holder} holds" if one.kind == "trespass" else RIGHTS.get(one.kind, "")
        return _sentence(f"{printable(one.user)} uses GPU {spell_gpu(one.gpu)}{right}: {_use(one)}")
    called = f"The GPU is now GPU {spell_gpu(one.gpu)}, with" if before and before.gpu != one.gpu else "Now"
    return _sentence(f"{called} {_use(one)}")


def describe_notice(one: NoticeFacts) -> str:
    """Return the sentence about a notice: its kind, its recipient and its channels."""
    people = {OFFENDER: one.person, HOLDER: f"{one.person} (who holds the GPU)", ADMINS: "administrators"}
    whom = people.get(one.audience) or one.to or "nobody"
    what = NOTICES.get(one.kind, f"{one.kind} for {{}}").replace("{}", whom) + (
        " (dry run)" if one.dry_run else ""
    )
    who = [one.user] if one.unreached else [one.unreached_holder] if one.unreached_holder else []
    missed = "".join(f", because {printable(name)} could not be reached" for name in who)
    channels = f"by {_list(one.channels)}" if one.channels else "by every channel"
    return _sentence(f"{what}, {channels}{missed}")


def describe_attempt(one: Delivery) -> str:
    """Return the sentence about one attempt to deliver a notice."""
    whom = f"{one.channel} to {one.recipient}" if one.recipient else one.channel
    again = f", attempt {one.attempt}" if one.attempt > 1 else ""
    became = OUTCOMES.get(one.outcome, one.outcome)
    why = f" ({one.detail})" if one.detail not in ("", became) else ""
    return _sentence(f"By {whom}: {became}{why}{again}")


def describe_signal(one: Signalled) -> str:
    """Return the sentence about a signal to a process."""
    return _sentence(f"SIG{one.signal} to PID {one.pid} ({printable(one.name)}): {one.outcome}")


def describe_silence(kind: str, one: Silence) -> str:
    """Return the sentence about a silence that starts or ends."""
    if kind == ENDED:
        return _sentence(
            f"{one.ended_by} ended the silence of {one.by}"
            if one.ended_by
            else f"The silence of {one.by} has ended"
        )
    scope = [
        *([f"user {one.user}"] if one.user else []),
        *([f"GPU {spell_gpu(one.gpu)}"] if one.gpu is not None else []),
        *([f"process {one.process}"] if one.process else []),
    ]
    until = local_time(one.until)
    did = "acknowledged it" if one.ack else f"silenced {', '.join(scope)}"
    return _sentence(f"{one.by} {did} until {until}: {one.reason}")


def _use(one: Violation) -> str:
    names = [f"PID {process.pid} ({printable(process.name)})" for process in one.processes]
    more = len(names) - SHOWN
    shown = [*names[:SHOWN], *([f"{more} more"] if more > 0 else [])]
    whose = _list(shown) if shown else "unknown processes"
    return f"{one.memory_mb}MB by {whose}" if one.memory_mb else whose


def _list(names: "tuple[str, ...] | list[str]") -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _sentence(text: str) -> str:
    return printable(text, LONGEST)
