"""Identifies the peer of a socket connection. The kernel is the only source, never the request."""

import errno
import os
import pwd
import signal
import socket
import struct
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from canhazgpu.events.linux.group_membership import groups_of
from canhazgpu.events.linux.processes import EXHAUSTED
from canhazgpu.service.identity.cgroups import NOBODY, container_of, slice_uid
from canhazgpu.service.identity.hidepid import hides_others
from canhazgpu.service.identity.ordinary_users import OrdinaryUsers
from canhazgpu.service.identity.process_facts import is_proven, login_uid
from canhazgpu.service.identity.user_names import CALLER_PATIENCE, Users

SO_PEERGROUPS = 59  # <asm-generic/socket.h>; Python has no names for them.
SO_PEERPIDFD = 77
_CREDENTIALS = struct.Struct("i2I")  # The pid is signed, uid and gid are not: directories use all 32 bits.
_GROUP = struct.Struct("I")
GROUPS_BYTES = 1024  # The most Python's getsockopt asks for.
OVERFLOW_UID = 65534
NAMESPACES = ("pid", "user", "mnt")


class Peer(msgspec.Struct, frozen=True):
    """The caller at the time of the connection. `pid` is only for display: it may have been reused."""

    uid: int
    gid: int
    pid: int
    groups: frozenset[int]
    on_host: bool | None  # In the host's PID, user and mount namespaces; None: not permitted to check.
    name: str = ""  # The user's name, or the uid where it has none.
    login_uid: int | None = None  # Who logged in, if that is somebody else (sudo, su).
    listed: bool = True  # Whether `groups` are all of them.
    # Whether the uid is the user's: in a container, whoever started it chose it. None: it cannot be checked.
    proven: bool | None = True

    @property
    def person(self) -> int:
        """The uid of the user whose doing this is: after `sudo`, of the user who logged in."""
        return self.uid if self.login_uid is None else self.login_uid

    def is_admin(self, group: int | None) -> bool:
        """Whether this is root, the service's own user, or a member of the administrators' group.

        Only callers from the host count, because root in a container can take any uid and gid.
        """
        if self.pid <= 0 or self.uid in (NOBODY, OVERFLOW_UID):
            return False
        if self.uid in (0, os.geteuid()):
            return self.on_host is True
        return group is not None and group in self.groups and self.on_host is not False


def peer_of(connection: socket.socket) -> Peer:
    """Return the peer of a connection. Raises OSError if the connection is gone."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(raw)
    listed = True
    try:
        numbers = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, GROUPS_BYTES)
        groups = frozenset(number for (number,) in _GROUP.iter_unpack(numbers))
    except OSError:  # Too many for the buffer, or a kernel before 4.13.
        groups, listed = frozenset(), False
    on_host, login, proven = _process_facts(connection, pid, uid)
    return Peer(
        uid,
        gid,
        pid,
        groups | {gid},
        on_host,
        name=str(uid),
        login_uid=None if login == uid else login,
        listed=listed,
        proven=proven,
    )


async def complete_peer(peer: Peer, users: Users, persons: OrdinaryUsers) -> Peer:
    """Return the peer with its name, and with all groups if the kernel did not provide them.

    The login uid of a caller who is an ordinary user is removed: after `su - bob` it is another person's.
    """
    groups = peer.groups
    if not peer.listed:
        with anyio.move_on_after(CALLER_PATIENCE):
            more = await anyio.to_thread.run_sync(_listed_groups, peer.uid, peer.gid, abandon_on_cancel=True)
            groups |= more
    name, login = await users.name_of(peer.uid), peer.login_uid
    if login is not None:
        persons.refresh()
        login = None if persons.includes(peer.uid) else login
    return msgspec.structs.replace(peer, name=name, groups=groups, login_uid=login)


def _process_facts(
    connection: socket.socket, pid: int, uid: int
) -> tuple[bool | None, int | None, bool | None]:
    """Return whether the process that connected is on the host, who logged in, and whether its uid is proven.

    When it has ended, its number may be another process's, which says nothing about the caller.
    """
    if pid <= 0:
        return False, None, False
    try:
        process = _opened(connection, pid, uid)
    except OSError:
        return False, None, None
    if process is None:
        hidden = bool(hides_others())
        return None if hidden else False, None, hidden
    try:
        on_host = _on_host(pid)
        login = _login(f"/proc/{pid}") if on_host else None
        proven = _is_proven(pid, uid)
        signal.pidfd_send_signal(process, 0)
    except PermissionError:  # It is there: only who is gone for good cannot be asked.
        return on_host, login, proven
    except ProcessLookupError:
        return False, None, False
    finally:
        os.close(process)
    return on_host, login, proven


def _is_proven(pid: int, uid: int) -> bool | None:
    try:
        return is_proven(Path("/proc"), f"/proc/{pid}", uid)
    except OSError as error:  # /proc hides the processes of other users from a service that is not root.
        return None if error.errno in EXHAUSTED else bool(hides_others())


def _login(folder: str) -> int | None:
    """Return the audit login uid of the process of `folder`; without one, the uid of its session's slice."""
    login = login_uid(folder)
    if login is not None:
        return login
    try:
        cgroup = Path(folder, "cgroup").read_text("utf-8", "backslashreplace")
    except OSError:
        return None
    return slice_uid(cgroup) if container_of(cgroup) is None else None


def process_of(connection: socket.socket, peer: Peer) -> int | None:
    """Return a pidfd of the connected process, which the caller closes; None if it is gone or not visible.

    On kernels before 6.5 it is opened by pid, and used only if the process has the caller's uid.
    """
    try:
        return _opened(connection, peer.pid, peer.uid) if peer.pid > 0 else None
    except OSError:
        return None


def _opened(connection: socket.socket, pid: int, uid: int) -> int | None:
    """Return a pidfd of the caller, or None if it has ended. Raises OSError without a descriptor for it."""
    try:
        return connection.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)
    except OSError as error:
        if error.errno in EXHAUSTED:
            raise
        if error.errno != errno.ENOPROTOOPT:
            return None  # It has ended, and its number may be another's.
    try:
        process = os.pidfd_open(pid)
    except OSError as error:
        if error.errno in EXHAUSTED:
            raise
        return None
    try:
        if os.stat(f"/proc/{pid}").st_uid in (uid, 0):  # noqa: PTH116 - 0: not dumpable
            return process
    except OSError:
        pass
    os.close(process)
    return None


def _listed_groups(uid: int, gid: int) -> frozenset[int]:
    try:
        return groups_of(pwd.getpwuid(uid).pw_name, gid)
    except KeyError:
        return frozenset()


def _on_host(pid: int) -> bool | None:
    """Return whether a process is in the namespaces of PID 1, or in ours if those of PID 1 cannot be read.

    None if its own namespaces cannot be read either, for example by a service without root.
    """
    for kind in NAMESPACES:
        try:
            theirs = Path(f"/proc/{pid}/ns/{kind}").readlink()
        except PermissionError:
            return None
        except OSError:
            return None if hides_others() else False
        try:
            host = Path(f"/proc/1/ns/{kind}").readlink()
        except OSError:
            host = Path(f"/proc/self/ns/{kind}").readlink()
        if theirs != host:
            return False
    return True
