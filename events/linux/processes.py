"""Identifies processes by pidfd: whether they live, their descendants, and signals that cannot hit others."""

import errno
import os
import select
import signal
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

START_FIELD = 19  # Field 22 of /proc/PID/stat, counted after the name.
PARENT_FIELD = 1
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})  # It says nothing about a process.


class Process(msgspec.Struct, frozen=True):
    """A process of this boot. `start`, in clock ticks since boot, distinguishes it from a reused pid."""

    pid: int
    start: int


def pid_of(descriptor: int) -> int | None:
    """Return the pid of a pidfd's process, or None if it has ended."""
    for line in Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "Pid":
            return int(value) if int(value) > 0 and not has_ended(descriptor) else None
    return None


def has_ended(descriptor: int) -> bool:
    """Return whether a pidfd's process has ended; a zombie counts as ended."""
    return any_ended([descriptor])


def any_ended(descriptors: Iterable[int]) -> bool:
    """Return whether the process of one of these pidfds has ended."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def identify(descriptor: int) -> Process | None:
    """Return the process of a pidfd, or None if it has ended."""
    pid = pid_of(descriptor)
    start = None if pid is None else start_time_of(pid)
    if pid is None or start is None or has_ended(descriptor):
        return None
    return Process(pid, start)


def start_time_of(pid: int) -> int | None:
    """Return when the process with this pid began, None when there is none. Raises OSError if EXHAUSTED."""
    fields = _stat(pid)
    return int(fields[START_FIELD]) if fields else None


def open_process(process: Process) -> int | None:
    """Return a pidfd of exactly this process, to be closed; None when it has ended.

    Raises OSError if EXHAUSTED: whether it lives cannot be told.
    """
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError as error:
        if error.errno in EXHAUSTED:
            raise
        return None
    same = False
    try:
        same = identify(descriptor) == process
    finally:
        if not same:
            os.close(descriptor)
    return descriptor if same else None


def process_tree(root: Process) -> list[Process]:
    """Return a process and its descendants, parents first; empty if it has ended."""
    if start_time_of(root.pid) != root.start:
        return []
    children: dict[int, list[Process]] = {}
    for pid in _pids():
        fields = _stat(pid)
        if fields:
            parent = int(fields[PARENT_FIELD])
            children.setdefault(parent, []).append(Process(pid, int(fields[START_FIELD])))
    found = [root]
    for process in found:  # The loop extends the list.
        found += children.get(process.pid, ())
    return found


def parents(pid: int) -> list[Process]:
    """Return a process and its ancestors, as far as they are visible, the nearest first."""
    found: list[Process] = []
    while pid > 0 and pid not in {one.pid for one in found} and (fields := _stat(pid)):
        found.append(Process(pid, int(fields[START_FIELD])))
        pid = int(fields[PARENT_FIELD])
    return found


def with_variable(variable: bytes, value: bytes, uid: int | None = None) -> list[Process]:
    """Return the processes of a user, or of all users, that have this environment variable and value."""
    entry = variable + b"=" + value
    return [process for process in _of_user(uid) if entry in _environment(process)]


def begun_since(start: int) -> list[Process]:
    """Return the processes that began at this clock tick since boot, or later."""
    return [process for process in _of_user(None) if process.start >= start]


def _of_user(uid: int | None) -> Iterator[Process]:
    for pid in _pids():
        with suppress(OSError):
            owner = os.stat(f"/proc/{pid}").st_uid  # noqa: PTH116 - called for each process
            if uid in {None, owner} and (start := start_time_of(pid)) is not None:
                yield Process(pid, start)


def _environment(process: Process) -> list[bytes]:
    """Return the initial environment of a process; empty if it is not readable or the pid was reused."""
    try:
        entries = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []
    return entries if start_time_of(process.pid) == process.start else []


def send(process: Process, number: signal.Signals) -> bool:
    """Send a signal to exactly this process; False when it has ended or may not be signalled."""
    descriptor = None
    try:
        descriptor = open_process(process)
        if descriptor is not None:
            signal.pidfd_send_signal(descriptor, number)
    except OSError:
        return False
    finally:
        if descriptor is not None:
            os.close(descriptor)
    return descriptor is not None


def _pids() -> Iterator[int]:
    for name in os.listdir("/proc"):  # noqa: PTH208 - only the names are wanted
        if name.isdigit():
            yield int(name)


def _stat(pid: int) -> list[bytes]:
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
        return text[text.rindex(b")") + 2 :].split()
    except OSError as error:
        if error.errno in EXHAUSTED:
            raise
    except ValueError:
        pass
    return []
