"""Finds the terminals of a user, and writes to one without ever blocking.

A terminal is written to only if it belongs to the user and accepts messages (`mesg y`). This is checked for
root too, whom the kernel would not stop. Delivered means that the kernel accepted the text, nothing more.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from canhazgpu.notifiers.outcome import Outcome

CONSOLES, PSEUDO = 4, range(136, 144)  # Major numbers of terminals, from the kernel's devices list.
LONGEST = 1024  # Bytes in one write; a terminal that is being read accepts this much at once.
MULTIPLEXERS = ("tmux: client", "screen")
LOGINS = ("agetty", "getty", "mingetty", "login")  # These run as root on terminals where nobody is logged in.
TTY_FIELD, FOREGROUND_FIELD = 4, 5  # Fields 7 and 8 of /proc/PID/stat, counted from behind the name.


def terminals_of(uid: int, name: str) -> list[str]:
    """Return the paths of all terminals of a user.

    The sources are the controlling terminals of their processes (which includes tmux panes), logind and utmp.
    A terminal that only displays tmux or screen is left out if there are others, because writing to it would
    garble the panes.
    """
    found: dict[str, bool] = {}  # Path -> whether it only shows a multiplexer.
    for device, foreground in _controlling(uid):
        path = _path_of(device)
        if path:
            found[path] = found.get(path, False) or _comm(foreground).startswith(MULTIPLEXERS)
    for path in (*_logind(uid), *_utmp(name)):
        found.setdefault(path, False)
    panes = sorted(path for path, shows in found.items() if not shows)
    return panes or sorted(found)


def owned_terminals(uid: int, name: str) -> list[str]:
    """Return the terminals of a user without those where somebody else has become this user."""
    found = []
    for path in terminals_of(uid, name):
        with contextlib.suppress(OSError):
            if os.lstat(path).st_uid == uid:
                found.append(path)
    return found


def write(path: str, uid: int, text: bytes) -> tuple[str, str]:
    """Write `text` to a terminal of user `uid`; return the verdict and the detail of an Outcome."""
    try:
        verdict = _barred(os.lstat(path), uid)
        if verdict:
            return verdict
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC
        terminal = os.open(path, flags)
        try:
            return _barred(os.fstat(terminal), uid) or _write(terminal, text)
        finally:
            os.close(terminal)
    except OSError as error:
        return _verdict(error)


def _write(terminal: int, text: bytes) -> tuple[str, str]:
    written = os.write(terminal, text)
    if written < len(text):
        return "stuck", f"it accepted {written} of {len(text)} bytes"
    return "delivered", ""


def _barred(facts: os.stat_result, uid: int) -> tuple[str, str] | None:
    """Return why the terminal must not be written to, or None if it may be."""
    major = os.major(facts.st_rdev)
    if not stat.S_ISCHR(facts.st_mode) or not (major == CONSOLES or major in PSEUDO):
        return "refused", "it is not a terminal"
    if facts.st_uid != uid:
        return "refused", "it belongs to another user"
    if not facts.st_mode & stat.S_IWGRP:
        return "refused", "it does not accept messages (mesg n)"
    return None


def _verdict(error: OSError) -> tuple[str, str]:
    if error.errno in (errno.EAGAIN, errno.EWOULDBLOCK):
        return "stuck", "it accepts no output: it is stopped or full"
    if error.errno in (errno.EIO, errno.ENOENT, errno.ENXIO, errno.ENODEV):
        return "gone", "it no longer exists"
    return "refused", error.strerror or str(error)


def _controlling(uid: int) -> Iterator[tuple[int, int]]:
    """Yield the device number and foreground process group of each process of the user with a terminal."""
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                if entry.stat().st_uid != uid and _real_uid(entry.name) != uid:
                    continue
                fields = Path(entry.path, "stat").read_bytes()
                after = fields[fields.rindex(b")") + 2 :].split()
                if int(after[TTY_FIELD]) and not (uid == 0 and _comm(int(entry.name)) in LOGINS):
                    yield int(after[TTY_FIELD]) & 0xFFFFFFFF, int(after[FOREGROUND_FIELD])


def _real_uid(pid: str) -> int:
    for line in Path("/proc", pid, "status").read_bytes().splitlines():
        if line.startswith(b"Uid:"):
            return int(line.split()[1])
    return -1


def _path_of(device: int) -> str | None:
    """Return the path for a device number in the encoding of /proc/PID/stat."""
    major, minor = device >> 8 & 0xFFF, device & 0xFF | device >> 12 & 0xFFF00
    if major in PSEUDO:
        return f"/dev/pts/{(major - PSEUDO.start) * 256 + minor}"
    return f"/dev/tty{minor}" if major == CONSOLES and minor < 64 else None  # noqa: PLR2004 - then serial lines


def _comm(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text("utf-8", "backslashreplace").strip()
    return ""


def _logind(uid: int) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for session in Path("/run/systemd/sessions").iterdir():
            facts = dict(line.split("=", 1) for line in session.read_text().splitlines() if "=" in line)
            if facts.get("UID") == str(uid) and facts.get("TTY"):
                yield f"/dev/{facts['TTY']}"


def _utmp(name: str) -> Iterator[str]:
    import psutil  # noqa: PLC0415 - heavy, and only needed for a notice

    with contextlib.suppress(OSError):
        for user in psutil.users():
            if user.name == name and user.terminal:
                yield f"/dev/{user.terminal}"


def outcome(user: str, path: str, verdict: tuple[str, str]) -> Outcome:
    """Return the Outcome for one terminal of a user."""
    return Outcome(f"{user}:{path.removeprefix('/dev/')}", *verdict)
