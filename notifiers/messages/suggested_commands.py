"""The commands that notices about violations suggest: to keep the GPUs, to stop, to mute, to examine."""

import re
import shlex
from collections.abc import Iterable, Iterator
from itertools import accumulate

from canhazgpu.events.gpu import ProcessUse
from canhazgpu.events.sanitize import printable
from canhazgpu.events.spelling.gpu_numbers import spell_gpu
from canhazgpu.events.spelling.mig_profiles import profile_in
from canhazgpu.events.violations import Violation
from canhazgpu.notifiers.messages.phrases import FOR, as_many, gpus, listed

LONGEST = 400  # Characters of PIDs in one command: a terminal's message is short.
ENGINES = ("docker", "podman")
OWN = ("uid", "reservation")  # With this evidence the user can end the processes without root.
CONTAINERS = "containers"  # The start of the key of containers; their name changes with each of them.
_ID = re.compile(r"[0-9a-f]{12,64}", re.ASCII)
Row = tuple[str, str]


def remedies(violations: tuple[Violation, ...], *, may_ack: bool) -> Iterator[Row]:
    """Yield the commands with which the offender can resolve the violations.

    If one of the GPUs is reserved by somebody else, muting is not offered.
    """
    taken = [one for one in violations if one.holder]
    free = [one for one in violations if not one.holder]
    if free:
        numbers = [one.gpu for one in free]
        keep = f"canhazgpu reserve --gpu-ids {listed(numbers)} --duration {FOR}"
        yield f"To keep {gpus(numbers)}", keep
        yield from stop_commands(free, f"To stop using {gpus(numbers)}" if taken else "To stop")
    if taken:
        yield from stop_commands(taken, f"To free {gpus(one.gpu for one in taken)}")
    elif may_ack:
        yield "To mute these notices while you finish", "canhazgpu silence ack --for 1h"


def future_command(violations: tuple[Violation, ...]) -> list[Row]:
    """Return the command to use next time."""
    wait = "--wait " if any(one.holder for one in violations) else ""
    when = "To run on reserved GPUs" if wait else "Next time"
    return [(when, f"canhazgpu run {others_like(violations)} {wait}-- COMMAND")]


def others_like(violations: tuple[Violation, ...]) -> str:
    """Return the option that asks for GPUs as those of the violations: a number, or MIG instances."""
    used = {one.gpu: profile_in(one.gpu_name) for one in violations}
    (profile, *more) = set(used.values()) or {None}
    if profile is None or more:
        return as_many(used)
    return f"--mig {profile}" + (f":{len(used)}" if len(used) > 1 else "")


def stop_commands(violations: Iterable[Violation], purpose: str) -> Iterator[Row]:
    """Yield the command that ends the processes: containers with their engine, root's with sudo."""
    found = {process.pid: process for one in violations for process in one.processes}
    commands = sorted({stop for one in found.values() if (stop := _by_engine(one))})
    plain = [one for _, one in sorted(found.items()) if not _by_engine(one)]
    more = 0
    for sudo, own in (("", True), ("sudo ", False)):
        pids = [str(one.pid) for one in plain if (one.evidence in OWN) is own]
        if pids:
            commands.append(f"{sudo}kill {' '.join(fitting := _fitting(pids))}")
            more += len(pids) - len(fitting)
    if more:
        purpose += f" (the first {len(plain) - more} of {len(plain)} processes)"
    if commands:
        yield purpose, "; ".join(commands)


def inspection_commands(
    violations: tuple[Violation, ...], user: str = "", *, manage: bool = False
) -> Iterator[Row]:
    """Yield commands that show more; for administrators also one that allows the use for a while."""
    pids = sorted({process.pid for one in violations for process in one.processes})
    if manage and pids:
        numbers = ",".join(_fitting(list(map(str, pids))))
        yield "To see the processes", f"ps -o user,pid,ppid,lstart,args -p {numbers}"
    if manage and violations:
        whom = _silenced(violations, user)
        yield "To allow this for a while", f"canhazgpu silence add {whom} --for 2h --reason 'as agreed'"
    if violations:
        name = printable(violations[0].violation)
        yield "For details", f"canhazgpu violations show {shlex.quote(name)}"
    yield "To see all GPUs", "canhazgpu status"


def _silenced(violations: tuple[Violation, ...], user: str) -> str:
    if user in ("", "unknown") or any(one.key.startswith(CONTAINERS) for one in violations):
        return f"--gpu {spell_gpu(violations[0].gpu)}"
    return f"--user {shlex.quote(printable(user))}"


def _fitting(pids: list[str]) -> list[str]:
    """Return as many of the first PIDs as fit into a command."""
    lengths = accumulate(len(pid) + 1 for pid in pids)
    return [pid for pid, length in zip(pids, lengths, strict=True) if length <= LONGEST]


def _by_engine(process: ProcessUse) -> str:
    """Return the command that stops its container, if its uid is not the user's own; else nothing."""
    box = process.container
    if not box or box.runtime not in ENGINES or process.evidence in OWN or not _ID.fullmatch(box.id):
        return ""
    return f"{box.runtime} stop {box.id[:12]}"
