"""Finds out why a process does not answer. Standard library only, because the client uses it.

Many clients may wait at once, so that it loads nothing that they can do without.
"""

from __future__ import annotations

import os
import sys
from _socket import AF_UNIX, SO_PEERCRED, SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET, socket

STATES = {
    "T": ("is stopped", "kill -CONT {pid}"),
    "t": ("is held by a debugger", "detach it, or kill -CONT {pid}"),
}


def peer_pid(link: socket) -> int | None:
    """Return the pid of the peer of a socket, or None if it is in another PID namespace."""
    try:
        raw = link.getsockopt(SOL_SOCKET, SO_PEERCRED, 12)
    except OSError:
        return None
    return int.from_bytes(raw[:4], sys.byteorder) or None


def listener_pid(path: str) -> int | None:
    """Return the pid of the process that listens on a Unix socket, or None if nobody does."""
    try:
        link = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK)
    except OSError:  # Too many open files.
        return None
    try:
        link.connect(path)
        return peer_pid(link)
    except OSError:
        return None
    finally:
        link.close()


def halt_reason(pid: int) -> tuple[str, str] | None:
    """Return why a process is halted and the command that resumes it, or None if it is not halted."""
    state = _state(pid)
    if state in STATES:
        what, remedy = STATES[state]
        return what, remedy.format(pid=pid)
    group = _frozen_group(pid)
    return ("is frozen", f"echo 0 > /sys/fs/cgroup{group}/cgroup.freeze") if group else None


def is_state_readable(pid: int) -> bool:
    """Return whether the state of a process can be read."""
    return _state(pid) is not None


def _state(pid: int) -> str | None:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - speed
            return file.read().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return None


def _frozen_group(pid: int) -> str | None:
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            path = next((line[4:-1] for line in file if line.startswith("0::/")), None)
        if path is None:
            return None
        while path:  # A cgroup is frozen together with its parents.
            if os.path.exists(f"/sys/fs/cgroup/{path}/cgroup.freeze"):  # noqa: PTH110
                with open(f"/sys/fs/cgroup/{path}/cgroup.freeze", encoding="ascii") as file:  # noqa: PTH123
                    if file.read().strip() == "1":
                        return f"/{path}"
            path = path.rpartition("/")[0]
    except OSError:
        return None
    return None
