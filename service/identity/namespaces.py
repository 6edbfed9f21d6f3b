"""Finds out from the kernel who created the namespaces of a process (ioctl_ns(2), user_namespaces(7))."""

import os
import re
from contextlib import ExitStack, suppress
from fcntl import ioctl
from pathlib import Path

import msgspec

NS_GET_USERNS, NS_GET_PARENT, NS_GET_OWNER_UID = 0xB701, 0xB702, 0xB704  # <linux/nsfs.h>
DEEPEST = 33  # The kernel nests 32 user namespaces and 32 PID namespaces.
_PIDS = re.compile(rb"^NSpid:\s+(.*)", re.MULTILINE)


class Namespaces(msgspec.Struct, frozen=True):
    """The namespaces of a process.

    `host`: it is in the host's user and PID namespaces and has the host's root directory. `mapped`: it is in
    another user namespace. `nested`: it is in another PID namespace. `owner`: the uid of the creator of the
    outermost user namespace, provided that the PID namespaces were created with no more privileges; None if
    root's runtime created them. `known`: whether the kernel let us read the owner, or on the host the root
    directory.
    """

    host: bool
    mapped: bool = False
    nested: bool = False
    owner: int | None = None
    known: bool = True


def namespaces_of(proc: Path, folder: str, status: bytes) -> Namespaces:
    """Return the namespaces of the process of `folder` (/proc/PID); `status` is its status file's text."""
    pids = _PIDS.search(status)
    nested = pids is not None and len(pids[1].split()) > 1
    mapped = _map(Path(folder, "uid_map")) != _map(proc / "self/uid_map")
    if not mapped and not nested:
        hosts_root = _has_hosts_root(proc, folder)
        return Namespaces(host=hosts_root is not False, known=hosts_root is not None)
    if not mapped:
        return Namespaces(host=False, nested=True)
    try:
        return Namespaces(host=False, mapped=True, nested=nested, owner=_owner(proc, folder))
    except OSError:  # This needs permission to trace the process, which a service without root does not have.
        return Namespaces(host=False, mapped=True, nested=nested, known=False)


def _has_hosts_root(proc: Path, folder: str) -> bool | None:
    """Return whether a process has the host's root directory. Otherwise its files define what a uid means.

    The host's is that of PID 1, because ours may be a container's. If that cannot be read, it is ours. Return
    None if the process's cannot be read.
    """
    try:
        root = os.stat(f"{folder}/root/.")  # noqa: PTH116 - called for each new process
    except OSError:
        return None
    try:
        hosts = os.stat(f"{proc}/1/root/.")  # noqa: PTH116
    except OSError:
        hosts = os.stat("/")  # noqa: PTH116
    return os.path.samestat(root, hosts)


def _map(path: Path) -> list[bytes]:
    with suppress(OSError):
        return path.read_bytes().split()
    return [b"0", b"0", b"4294967295"]


def _owner(proc: Path, folder: str) -> int | None:
    with ExitStack() as opened:

        def opening(path: str) -> int:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            opened.callback(os.close, descriptor)
            return descriptor

        def related(descriptor: int, request: int) -> int:
            found = ioctl(descriptor, request)
            opened.callback(os.close, found)
            return found

        ours = {kind: os.fstat(opening(f"{proc}/self/ns/{kind}")) for kind in ("user", "pid")}
        pid_namespace = opening(f"{folder}/ns/pid")
        for _ in range(DEEPEST):
            if os.path.samestat(os.fstat(pid_namespace), ours["pid"]):
                break
            if os.path.samestat(os.fstat(related(pid_namespace, NS_GET_USERNS)), ours["user"]):
                return None  # Only root can create one there.
            pid_namespace = related(pid_namespace, NS_GET_PARENT)
        user_namespace = opening(f"{folder}/ns/user")
        for _ in range(DEEPEST):
            parent = related(user_namespace, NS_GET_PARENT)
            if os.path.samestat(os.fstat(parent), ours["user"]):
                uid = bytearray(4)
                ioctl(user_namespace, NS_GET_OWNER_UID, uid)
                return int.from_bytes(uid, "little")
            user_namespace = parent
    return None
