"""Whose a process is: a ladder of evidence read from /proc. It never guesses: unknown is an answer."""

import os
import pwd
import re
from pathlib import Path

from canhazgpu.events.gpu import Container, ProcessReading, ProcessUse
from canhazgpu.events.text import printable
from canhazgpu.service.cgroups import NOBODY, container_of, slice_uid

# Serves other users' programs, so that its own user says nothing about them.
SHARED_SERVERS = frozenset({"nvidia-cuda-mps-server", "nvidia-cuda-mps"})  # The second: cut by the kernel.
LONGEST_LIST = 4096
FIRST_ORDINARY, LAST_ORDINARY = 1000, 60000  # What /etc/login.defs has where it is silent.
_RESERVATION = re.compile(rb"\0CANHAZGPU_RESERVATION=(r[0-9-]{1,40})\0")
_UIDS = re.compile(rb"^Uid:\s+([0-9]+)", re.MULTILINE)
START_FIELD = 19  # Field 22 of /proc/PID/stat, counted from behind the name.


class Attributor:
    """Reads what it needs of a process once, and keeps it while the process lives."""

    def __init__(self, proc: Path = Path("/proc"), etc: Path = Path("/etc")) -> None:
        """Read the ranges of users from `etc`; processes are read from `proc`."""
        self._proc = proc
        self._first, self._last = _ordinary_range(etc / "login.defs")
        self._subuids = _subuid_ranges(etc / "subuid")
        self._known: dict[int, tuple[int, ProcessUse]] = {}  # By pid, with the owner it was read under.
        self._names: dict[int, str] = {}

    def attribute(self, process: ProcessReading) -> ProcessUse | None:
        """Return whose the process is, or None when it has gone and was not made up whole."""
        found = self._of_system(process.pid)
        if process.user is None and process.name is None:
            return _with_memory(found, process.memory_mb) if found else None
        if found is None and (process.user is None or process.name is None):
            return None
        base = found or ProcessUse(pid=process.pid, name="", user="", memory_mb=None)
        changes: dict[str, object] = {"memory_mb": process.memory_mb}
        if process.name is not None:
            changes["name"] = printable(process.name)
        if process.user is not None:
            user = printable(process.user)
            changes |= {"user": user, "person": user, "evidence": "uid", "uid": _uid_of(process.user)}
        return _replace(base, changes)

    def _of_system(self, pid: int) -> ProcessUse | None:
        folder = f"{self._proc}/{pid}"
        try:
            with open(f"{folder}/stat", "rb") as file:  # noqa: PTH123 - called for each process of each scan
                stat = file.read()
            end = stat.rindex(b")")
            name = printable(stat[stat.index(b"(") + 1 : end])
            start = int(stat[end + 2 :].split()[START_FIELD])
            owner = os.stat(folder).st_uid  # noqa: PTH116 - as above
            known = self._known.get(pid)
            if known and (known[0], known[1].start, known[1].name) == (owner, start, name):
                return known[1]
            fresh = self._read(pid, folder, start, name)
        except (OSError, ValueError, IndexError):
            self._known.pop(pid, None)
            return None
        if len(self._known) >= LONGEST_LIST:
            self._known.clear()
            self._names.clear()
        self._known[pid] = (owner, fresh)
        return fresh

    def _read(self, pid: int, folder: str, start: int, name: str) -> ProcessUse:
        uids = _UIDS.search(Path(folder, "status").read_bytes())
        if uids is None:
            raise ValueError("the status has no Uid")
        uid = int(uids[1])
        cgroup = Path(folder, "cgroup").read_text("utf-8", "backslashreplace")
        container = container_of(cgroup)
        owner, evidence = self._climb(uid, cgroup, folder, container)
        if name in SHARED_SERVERS:
            owner, evidence = None, "unknown"
        person = None if owner is None else self._name(owner)
        return ProcessUse(
            pid=pid,
            name=name,
            user=person or self._name(uid),
            memory_mb=None,
            uid=uid if owner is None else owner,
            start=start,
            person=person,
            evidence=evidence,
            container=container,
            reservation=None if person else _claimed_reservation(folder),
        )

    def _climb(
        self, uid: int, cgroup: str, folder: str, container: Container | None
    ) -> tuple[int | None, str]:
        """Return the uid of the person and the rung that proves it."""
        if self._first <= uid <= self._last:
            return uid, "uid"
        for owner, first, count in self._subuids:
            if first <= uid < first + count and self._first <= owner <= self._last:
                return owner, "subuid"
        in_slice = slice_uid(cgroup)
        if in_slice is not None and self._first <= in_slice <= self._last:
            return in_slice, "slice"
        if container is None:  # A container's login uid would be that of who started the runtime.
            login = _login_uid(folder)
            if login is not None and self._first <= login <= self._last:
                return login, "loginuid"
        return None, "unknown"

    def _name(self, uid: int) -> str:
        if uid not in self._names:
            try:
                self._names[uid] = printable(pwd.getpwuid(uid).pw_name)
            except KeyError:
                self._names[uid] = str(uid)
        return self._names[uid]


def _with_memory(process: ProcessUse, memory_mb: int | None) -> ProcessUse:
    return process if process.memory_mb == memory_mb else _replace(process, {"memory_mb": memory_mb})


def _replace(process: ProcessUse, changes: dict[str, object]) -> ProcessUse:
    fields = {name: getattr(process, name) for name in process.__struct_fields__}
    return ProcessUse(**{**fields, **changes})


def _uid_of(user: str) -> int | None:
    try:
        return pwd.getpwnam(user).pw_uid
    except (KeyError, ValueError):  # ValueError: a NUL in the name.
        return None


def _claimed_reservation(folder: str) -> str | None:
    """Return what reservation a process says it belongs to: it inherited the name from `canhazgpu run`.

    A claim, so it is asked only of processes that nobody is proven to own, such as those of containers.
    """
    try:
        found = _RESERVATION.search(b"\0" + Path(folder, "environ").read_bytes())
    except OSError:  # Not ours to read, or gone.
        return None
    return found[1].decode() if found else None


def _login_uid(folder: str) -> int | None:
    try:
        uid = int(Path(folder, "loginuid").read_bytes())
    except (OSError, ValueError):
        return None
    return None if uid == NOBODY else uid


def _ordinary_range(path: Path) -> tuple[int, int]:
    found = {"UID_MIN": FIRST_ORDINARY, "UID_MAX": LAST_ORDINARY}
    for line in _lines(path):
        words = line.split()
        if len(words) == 2 and words[0] in found and words[1].isdigit():  # noqa: PLR2004 - a name and a value
            found[words[0]] = int(words[1])
    return found["UID_MIN"], found["UID_MAX"]


def _subuid_ranges(path: Path) -> list[tuple[int, int, int]]:
    ranges = []
    for line in _lines(path):
        owner, _, rest = line.partition(":")
        first, _, count = rest.partition(":")
        uid = int(owner) if owner.isdigit() else _uid_of(owner)
        if uid is not None and first.isdigit() and count.isdigit():
            ranges.append((uid, int(first), int(count)))
    return ranges


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "backslashreplace").splitlines()
    except OSError:
        return []
