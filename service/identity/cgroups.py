"""Reads the container and the user session of a process from its cgroup path.

Path components are matched one by one, because a container may choose its own name.
"""

import re

from canhazgpu.events.gpu import Container

_ID = r"([0-9a-f]{64})"
_SCOPES = (
    ("docker", re.compile(rf"docker-{_ID}\.scope")),
    ("podman", re.compile(rf"libpod-(?:conmon-)?{_ID}(?:\.scope)?")),
    ("containerd", re.compile(rf"cri-containerd-{_ID}(?:\.scope)?")),
    ("cri-o", re.compile(rf"crio-{_ID}(?:\.scope)?")),
    ("containerd", re.compile(rf"[^/]*:cri-containerd:{_ID}")),
    ("containerd", re.compile(rf"nerdctl-{_ID}\.scope")),
    ("lxc", re.compile(r"lxc\.payload\.(.+)")),
)
_BARE = re.compile(_ID)
_PARENTS = {"docker": "docker", "libpod_parent": "podman", "lxc": "lxc"}
# Only where systemd itself puts it: whoever may make cgroups below could choose any name there.
_SLICE = re.compile(r"/user\.slice/user-([0-9]{1,10})\.slice(/user@\1\.service)?(?:/.*)?")
# Where users make cgroups of any name themselves (libpam-cgfs, on cgroup v1).
_OF_USERS = re.compile(r"/user/[^/]+/")
NOBODY = 2**32 - 1


def container_of(cgroup: str) -> Container | None:
    """Return the innermost container in the text of `/proc/PID/cgroup`, or None."""
    for path in _paths(cgroup):
        if _OF_USERS.match(path):
            continue
        parts = path.split("/")
        for position in range(len(parts) - 1, -1, -1):
            found = _container(parts, position)
            if found:
                return found
    return None


def slice_uid(cgroup: str) -> int | None:
    """Return the uid of the user slice in the text of `/proc/PID/cgroup`, or None.

    For a container it counts only below its owner's own service manager, because a host-wide container
    service puts its containers wherever a user asks it to.
    """
    inside = container_of(cgroup) is not None
    for path in _paths(cgroup):
        match = _SLICE.fullmatch(path)
        if match and int(match[1]) < NOBODY and (match[2] or not inside):
            return int(match[1])
    return None


def _container(parts: list[str], position: int) -> Container | None:
    part = parts[position]
    for runtime, pattern in _SCOPES:
        match = pattern.fullmatch(part)
        if match:
            return Container(runtime=runtime, id=match[1])
    before = parts[position - 1] if position else ""
    if _BARE.fullmatch(part):
        in_pod = before.startswith(("pod", "kubepods"))
        return Container(runtime="containerd" if in_pod else _PARENTS.get(before, "container"), id=part)
    if before == "lxc" and part:
        return Container(runtime="lxc", id=part)
    return None


def _paths(cgroup: str) -> list[str]:
    """Return the paths of all hierarchies, the unified one (v2) and systemd's first."""
    rows = [line.split(":", 2) for line in cgroup.split("\n") if line.count(":") > 1]
    rows.sort(key=lambda row: (row[0] != "0", row[1] != "name=systemd"))
    return list(dict.fromkeys(row[2] for row in rows))
