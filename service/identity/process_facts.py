"""Reads facts about a process from /proc that do not change while it lives, and finds the run it belongs to.

A descendant of a run's first process belongs to it. If a parent in between has ended, a process belongs to it
if it claims the reservation and is in the session (setsid(2)) or the login (audit session) of the run's first
process. Everybody can make the claim, but a process can only inherit its session or begin a new one.
"""

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from canhazgpu.events.gpu import Container
from canhazgpu.events.linux.processes import EXHAUSTED, PARENT_FIELD, START_FIELD, Process
from canhazgpu.events.sanitize import printable
from canhazgpu.service.identity.cgroups import NOBODY, container_of, slice_uid
from canhazgpu.service.identity.executables import DELETED, executable_of, is_roots
from canhazgpu.service.identity.namespaces import Namespaces, namespaces_of

DEEPEST = 64  # Maximum number of ancestors to check.
TICKS = os.sysconf("SC_CLK_TCK")
_RESERVATION = re.compile(rb"\0CANHAZGPU_RESERVATION=(r[0-9-]{1,40})\0")
_SESSION_FIELD = 3  # Field 6 of /proc/PID/stat, counted after the name.
_UIDS = re.compile(rb"^Uid:\s+([0-9]+)", re.MULTILINE)


class Facts(msgspec.Struct, frozen=True):
    """Facts about a process. They are valid as long as its pid, start, owner and name stay the same."""

    uid: int
    start: int
    name: str
    container: Container | None
    namespaces: Namespaces
    in_slice: int | None
    login_uid: int | None
    claim: str | None
    executable: str | None
    program: str | None
    run: str | None
    began_ms: int | None = None
    by_parents: bool = False  # Its parents on the host prove its uid, although it has another root directory.

    @property
    def on_host(self) -> bool:
        """Whether its uid means a user of the host."""
        return self.namespaces.host and self.container is None

    @property
    def own_slice(self) -> int | None:
        """The user of its slice; in a container only if its user namespace was created by that user.

        A container service of root's puts a container in any slice (`docker run --cgroup-parent`). If the
        creator of the namespace cannot be read, the process must have the user's uid.
        """
        if self.container is None:
            return self.in_slice
        owner = self.namespaces.owner if self.namespaces.known else self.uid
        return self.in_slice if self.namespaces.mapped and owner == self.in_slice else None


def read_facts(  # noqa: PLR0913, PLR0917 - where it is, and what is known of it
    proc: Path, folder: str, start: int, name: str, run: str | None, before: Facts | None = None
) -> Facts:
    """Read the process of `folder` (/proc/PID), whose start and name are known.

    `before`: earlier facts about it; parents that proved its uid may have ended since. Raises OSError or
    ValueError if it has ended.
    """
    status = Path(folder, "status").read_bytes()
    uids = _UIDS.search(status)
    if uids is None:
        raise ValueError("the status has no Uid")
    uid = int(uids[1])
    cgroup = Path(folder, "cgroup").read_text("utf-8", "backslashreplace")
    container, in_slice = container_of(cgroup), slice_uid(cgroup)
    namespaces = namespaces_of(proc, folder, status)
    if container and _is_named_by(in_slice, folder, uid, namespaces):
        container = None
    on_host = container is None and namespaces.host
    executable, program = _program(folder, uid, name) if on_host else (None, None)
    by_parents = before is not None and before.uid == uid and before.by_parents
    if not (on_host or by_parents) and container is None and not (namespaces.mapped or namespaces.nested):
        by_parents = _has_uid_of_host_parent(proc, int(Path(folder).name), uid)
    return Facts(
        uid=uid,
        start=start,
        name=name,
        container=container,
        namespaces=namespaces,
        in_slice=in_slice,
        # In a container, the login uid would be that of the user who started the runtime.
        login_uid=login_uid(folder) if on_host else None,
        claim=_claimed_reservation(folder),
        executable=executable,
        program=program,
        run=run,
        began_ms=_began_ms(start),
        by_parents=by_parents,
    )


def is_proven(proc: Path, folder: str, uid: int) -> bool:
    """Return whether the process of `folder` (/proc/PID) is the doing of the user `uid` that it has.

    In a container of root's runtime, and in another root directory, somebody else may have chosen the uid. It
    is proven on the host, in a user namespace that the user created, below the user's own login, and by
    parents on the host. A container that the service is in too is its host. Raises OSError if the process has
    ended or is hidden.
    """
    status = Path(folder, "status").read_bytes()
    cgroup = Path(folder, "cgroup").read_text("utf-8", "backslashreplace")
    container, in_slice = container_of(cgroup), slice_uid(cgroup)
    own = container_of(Path(proc, "self/cgroup").read_text("utf-8", "backslashreplace"))
    shared = container is not None and container == own
    if shared:
        container = None
    namespaces = namespaces_of(proc, folder, status)
    if container and _is_named_by(in_slice, folder, uid, namespaces):
        container = None
    if namespaces.mapped:
        owner = namespaces.owner if namespaces.known else uid
        return owner == uid and (container is None or owner == in_slice)
    if container is not None:
        return False
    if (namespaces.host or shared) and not namespaces.nested:
        return True
    if uid in {login_uid(folder), in_slice}:
        return True
    return not namespaces.nested and _has_uid_of_host_parent(proc, int(Path(folder).name), uid)


def _is_named_by(user: int | None, folder: str, uid: int, namespaces: Namespaces) -> bool:
    """Return whether a container in `user`'s slice is only a cgroup that this user gave such a name.

    Users name the cgroups below their own service manager as they like (`systemd-run --user --scope`). The
    processes of a container are in other namespaces.
    """
    if user is None or not (namespaces.host and namespaces.known):
        return False
    return user in {uid, login_uid(folder)}


def _began_ms(start: int) -> int:
    """Return the start time of a process in milliseconds since 1970; `start` is in clock ticks since boot."""
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - start / TICKS
    return round((time.time() - age) * 1000)


def login_uid(folder: str) -> int | None:
    """Return the audit login uid of the process of `folder` (/proc/PID)."""
    try:
        uid = int(Path(folder, "loginuid").read_bytes())
    except (OSError, ValueError):
        return None
    return None if uid == NOBODY else uid


def _program(folder: str, uid: int, name: str) -> tuple[str | None, str | None]:
    """Return the program of a process, and the program that it is proven to be.

    If that cannot be read, a process of root is identified by its name, because root is trusted.
    """
    try:
        executable = executable_of(folder)
    except PermissionError:
        return None, name if uid == 0 else None
    if executable is None or not is_roots(folder, executable):
        return executable, None
    return executable, printable(executable.removesuffix(DELETED))


def _claimed_reservation(folder: str) -> str | None:
    """Return the reservation that a process claims to belong to; it inherits the id from `canhazgpu run`.

    This is only a claim. Of a process with a proven user it counts only as `run_of` says.
    """
    try:
        found = _RESERVATION.search(b"\0" + Path(folder, "environ").read_bytes())
    except OSError:  # Not ours to read, or gone.
        return None
    return found[1].decode() if found else None


class _Relations(msgspec.Struct):
    start: int
    parent: int
    session: int


def run_of(proc: Path, pid: int, facts: Facts, runs: Mapping[str, Process]) -> str | None:
    """Return the run in `runs` (first processes by reservation) that a process belongs to, if any.

    Raises OSError if EXHAUSTED.
    """
    process, claim = Process(pid, facts.start), facts.claim
    own = _relations(proc, pid)
    if own is None or own.start != process.start:
        return None
    found = _run_above(proc, process, own.parent, runs)
    if found is not None or claim is None or claim not in runs:
        return found
    # In a container, the login would be that of the user who started the runtime.
    login = _audit_session(proc, pid) if facts.on_host else None
    return claim if _is_beside(proc, runs[claim], own.session, login) else None


def _run_above(proc: Path, process: Process, parent: int, runs: Mapping[str, Process]) -> str | None:
    by_process = {first: name for name, first in runs.items()}
    for _ in range(DEEPEST):
        run = by_process.get(process)
        if run is not None:
            return run
        found = _relations(proc, parent) if parent > 0 else None
        if found is None or found.start > process.start:  # Its parent has ended, and another has its pid.
            return None
        process, parent = Process(parent, found.start), found.parent
    return None


def _is_beside(proc: Path, first: Process, session: int, login: int | None) -> bool:
    """Return whether a run's first process is in this session, or comes from this login.

    While it is, the number is not given to another session. All that began outside this PID namespace are 0.
    """
    of_first = _audit_session(proc, first.pid)
    found = _relations(proc, first.pid)
    if found is None or found.start != first.start:
        return False
    return found.session == session > 0 or (login is not None and login == of_first)


def _audit_session(proc: Path, pid: int) -> int | None:
    """Return the number of the login that a process comes from; only a new login changes it."""
    try:
        number = int(Path(f"{proc}/{pid}/sessionid").read_bytes())
    except (OSError, ValueError):
        return None
    return None if number in {0, NOBODY} else number


def _has_uid_of_host_parent(proc: Path, pid: int, uid: int) -> bool:
    """Return whether an ancestor of a process proves its uid although its root directory is another.

    It does if it is on the host, and has the same uid and session, and so do all processes in between: then
    its user entered that directory, with a program that has the right to (Apptainer). In a session of its own
    somebody may have logged in there, as a user of that directory.
    """
    own = _relations(proc, pid)
    for _ in range(DEEPEST):
        above = _relations(proc, own.parent) if own and own.parent > 0 else None
        if own is None or above is None or above.start > own.start or not above.session == own.session > 0:
            return False
        folder = f"{proc}/{own.parent}"
        try:
            status = Path(folder, "status").read_bytes()
            cgroup = Path(folder, "cgroup").read_text("utf-8", "backslashreplace")
        except OSError:
            return False
        uids, namespaces = _UIDS.search(status), namespaces_of(proc, folder, status)
        if uids is None or int(uids[1]) != uid or namespaces.mapped or namespaces.nested:
            return False
        if container_of(cgroup) is not None or _relations(proc, own.parent) != above:
            return False
        if namespaces.host:
            return namespaces.known
        own = above
    return False


def _relations(proc: Path, pid: int) -> _Relations | None:
    try:
        stat = Path(f"{proc}/{pid}/stat").read_bytes()
        fields = stat[stat.rindex(b")") + 2 :].split()
        return _Relations(int(fields[START_FIELD]), int(fields[PARENT_FIELD]), int(fields[_SESSION_FIELD]))
    except (OSError, ValueError, IndexError) as error:
        if isinstance(error, OSError) and error.errno in EXHAUSTED:
            raise
        return None
