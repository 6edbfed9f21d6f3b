"""Whose a process in namespaces is: real ones, made by real users and by root."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import until
from support.people import Person

from canhazgpu.events.gpu import ProcessReading, ProcessUse
from canhazgpu.service.identity.attribution import Attributor

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else")


@pytest.fixture
def started() -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Processes that end with the test, and with them what they started."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        subprocess.run(["pkill", "-KILL", "-P", str(process.pid)], check=False)
        process.kill()
        process.wait()


def sleeper(root: int) -> int:
    """Wait for the process `sleep` under another; return its pid."""
    found: list[int] = []

    def look() -> bool:
        pids = [root]
        for pid in pids:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            pids += [int(child) for child in children]
            if Path(f"/proc/{pid}/comm").read_text() == "sleep\n":
                found[:] = [pid]
        return bool(found)

    until(look)
    return found[0]


def whose(pid: int) -> ProcessUse:
    """Return whose a process is once the names are known."""
    attributor = Attributor()
    attributor.attribute(ProcessReading(pid=pid, memory_mb=1))
    attributor.users.wait(30)
    found = attributor.attribute(ProcessReading(pid=pid, memory_mb=1))
    assert found
    return found


@pytest.mark.parametrize("options", ["-Ur", "-U", "-Urpf", "-Urmpf"])
def test_a_users_own_namespaces_are_theirs(
    people: list[Person], started: list["subprocess.Popen[bytes]"], options: str
) -> None:
    """Whatever uid they take in there, the kernel says who made the namespace."""
    process = people[0].spawn("unshare", options, "sleep", "60")
    started.append(process)
    found = whose(sleeper(process.pid))
    assert (found.person, found.evidence, found.uid) == (people[0].name, "uid", people[0].uid)
    assert found.login_uid is None


def test_a_nested_namespace_is_whose_made_the_outermost(
    people: list[Person], started: list["subprocess.Popen[bytes]"]
) -> None:
    """A rootless container may hold another."""
    process = people[0].spawn("unshare", "-Urpf", "unshare", "-Urpf", "sleep", "60")
    started.append(process)
    found = whose(sleeper(process.pid))
    assert (found.person, found.evidence) == (people[0].name, "uid")


def test_subordinate_uids_in_a_namespace_are_whose_made_it(
    people: list[Person], started: list["subprocess.Popen[bytes]"]
) -> None:
    """What newuidmap gave: an image's user in a rootless container."""
    outer = people[0].spawn("unshare", "-U", "sleep", "60")
    started.append(outer)
    pid = sleeper(outer.pid)
    until(lambda: Path(f"/proc/{pid}/ns/user").readlink() != Path("/proc/self/ns/user").readlink())
    for kind in ("uid", "gid"):
        Path(f"/proc/{pid}/{kind}_map").write_text(f"0 {people[0].uid} 1\n1 3100000000 1000\n")
    inside = [
        "nsenter",
        "-t",
        str(pid),
        "-U",
        "setpriv",
        "--reuid=7",
        "sleep",
        "61",
    ]
    inner = subprocess.Popen(inside)
    started.append(inner)
    until(lambda: b"sleep" in Path(f"/proc/{inner.pid}/comm").read_bytes())
    found = whose(inner.pid)
    assert (found.person, found.evidence, found.uid) == (people[0].name, "subuid", people[0].uid)


@pytest.mark.parametrize("options", ["--pid --fork", "--pid --fork --mount"])
def test_a_uid_in_roots_namespaces_proves_nobody(
    people: list[Person], started: list["subprocess.Popen[bytes]"], options: str
) -> None:
    """A runtime that names no container in the cgroup, and an image whose uid is a user's by chance."""
    become = ["setpriv", f"--reuid={people[0].uid}", "--clear-groups"]
    process = subprocess.Popen(["unshare", *options.split(), *become, "sleep", "60"])
    started.append(process)
    found = whose(sleeper(process.pid))
    assert (found.person, found.evidence, found.uid) == (None, "unknown", None)
    assert found.user == f"uid {people[0].uid} in a container"


def test_a_users_namespace_inside_roots_proves_nobody(
    people: list[Person], started: list["subprocess.Popen[bytes]"]
) -> None:
    """Who is 1001 in an image may make namespaces as 1001 there."""
    become = ["setpriv", f"--reuid={people[0].uid}", "--clear-groups", "unshare", "-Urpf"]
    process = subprocess.Popen(["unshare", "--pid", "--fork", *become, "sleep", "60"])
    started.append(process)
    assert whose(sleeper(process.pid)).person is None


def test_roots_map_onto_a_user_proves_nobody(
    people: list[Person], started: list["subprocess.Popen[bytes]"]
) -> None:
    """As dockerd's userns-remap makes it: the range may be anybody's."""
    process = subprocess.Popen(["unshare", "-U", "sleep", "60"])
    started.append(process)
    pid = sleeper(process.pid)
    until(lambda: Path(f"/proc/{pid}/ns/user").readlink() != Path("/proc/self/ns/user").readlink())
    for kind in ("uid", "gid"):
        Path(f"/proc/{pid}/{kind}_map").write_text(f"0 {people[0].uid} 10\n")
    inside = ["nsenter", "-t", str(pid), "-U", "sleep", "61"]
    inner = subprocess.Popen(inside)
    started.append(inner)
    until(lambda: b"sleep" in Path(f"/proc/{inner.pid}/comm").read_bytes())
    found = whose(inner.pid)
    assert f"\nUid:\t{people[0].uid}\t" in Path(f"/proc/{inner.pid}/status").read_text()
    assert (found.person, found.uid) == (None, None)


def test_a_uid_in_a_tree_of_its_own_proves_nobody(
    people: list[Person], started: list["subprocess.Popen[bytes]"]
) -> None:
    """Root starts it in another root directory, whose passwd has that number for somebody else."""
    uid = people[0].uid
    inside = ["chroot", f"--userspec={uid}:{uid}", "/usr", "/bin/sleep", "600"]
    started.append(subprocess.Popen(["unshare", "--mount", *inside]))
    until(lambda: Path(f"/proc/{started[0].pid}/comm").read_text() == "sleep\n")
    found = whose(started[0].pid)
    assert (found.person, found.uid, found.user) == (None, None, f"uid {uid} in a container")
