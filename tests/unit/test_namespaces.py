"""The owner of a process in namespaces, tested with real ones of real users and of root."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.control_groups import control_group, needs_cgroups
from support.daemon import until
from support.people import Person

from canhazgpu.events.gpu import ProcessReading, ProcessUse
from canhazgpu.service.identity.attribution import Attributor

CONTAINER = f"docker-{'a1' * 32}.scope"
pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else")


@pytest.fixture
def started() -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Start processes that end with the test, together with their children."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        subprocess.run(["pkill", "-KILL", "-P", str(process.pid)], check=False)
        process.kill()
        process.wait()


def sleeper(root: int) -> int:
    """Wait for the process `sleep` below another one; return its pid."""
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
    """Return the owner of a process once names are known."""
    attributor = Attributor()
    attributor.attribute(ProcessReading(pid=pid, memory_mb=1))
    attributor.users.wait(30)
    found = attributor.attribute(ProcessReading(pid=pid, memory_mb=1))
    assert found
    return found


def whose_below(uid: int, name: str, pid: int) -> ProcessUse:
    """Return the owner of a process in the cgroup `name` below a user's service manager."""
    with control_group(f"user.slice/user-{uid}.slice/user@{uid}.service/{name}") as group:
        (group / "cgroup.procs").write_text(str(pid))
        return whose(pid)


@pytest.mark.parametrize("options", ["-Ur", "-U", "-Urpf", "-Urmpf"])
def test_a_users_own_namespaces_are_theirs(
    people: list[Person], started: list["subprocess.Popen[bytes]"], options: str
) -> None:
    """A process in a user's own namespace belongs to that user, whatever its uid inside."""
    process = people[0].spawn("unshare", options, "sleep", "60")
    started.append(process)
    found = whose(sleeper(process.pid))
    assert (found.person, found.evidence, found.uid) == (people[0].name, "uid", people[0].uid)
    assert found.login_uid is None


def test_a_nested_namespace_is_whose_made_the_outermost(
    people: list[Person], started: list["subprocess.Popen[bytes]"]
) -> None:
    """In nested namespaces, the creator of the outermost one counts."""
    process = people[0].spawn("unshare", "-Urpf", "unshare", "-Urpf", "sleep", "60")
    started.append(process)
    found = whose(sleeper(process.pid))
    assert (found.person, found.evidence) == (people[0].name, "uid")


def test_subordinate_uids_in_a_namespace_are_whose_made_it(
    people: list[Person], started: list["subprocess.Popen[bytes]"]
) -> None:
    """Subordinate uids in a user's own namespace belong to the creator of the namespace."""
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
    """In namespaces of root, a uid proves nobody, even if the cgroup names no container."""
    become = ["setpriv", f"--reuid={people[0].uid}", "--clear-groups"]
    process = subprocess.Popen(["unshare", *options.split(), *become, "sleep", "60"])
    started.append(process)
    found = whose(sleeper(process.pid))
    assert (found.person, found.evidence, found.uid) == (None, "unknown", None)
    assert found.user == f"uid {people[0].uid} in a container"


def test_a_users_namespace_inside_roots_proves_nobody(
    people: list[Person], started: list["subprocess.Popen[bytes]"]
) -> None:
    """A namespace that was created inside root's namespaces proves nobody."""
    become = ["setpriv", f"--reuid={people[0].uid}", "--clear-groups", "unshare", "-Urpf"]
    process = subprocess.Popen(["unshare", "--pid", "--fork", *become, "sleep", "60"])
    started.append(process)
    assert whose(sleeper(process.pid)).person is None


def test_roots_map_onto_a_user_proves_nobody(
    people: list[Person], started: list["subprocess.Popen[bytes]"]
) -> None:
    """A map of root's, as of dockerd's userns-remap, proves nobody."""
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


@needs_cgroups
@pytest.mark.parametrize("maker", [None, 0, 1])
def test_a_container_below_a_users_manager_is_whose_namespace_it_is_in(
    people: list[Person], started: list["subprocess.Popen[bytes]"], maker: int | None
) -> None:
    """A container below a user's manager belongs to that user only if the namespace is also theirs."""
    words = ["unshare", "--pid", "--fork"] if maker is None else ["unshare", "-Urpf"]
    words.append("sleep")
    process = subprocess.Popen([*words, "60"]) if maker is None else people[maker].spawn(*words, "60")
    started.append(process)
    found = whose_below(people[0].uid, CONTAINER, sleeper(process.pid))
    assert found.container
    wanted = (people[0].name, "uid") if maker == 0 else (None, "unknown")
    assert (found.person, found.evidence) == wanted


@needs_cgroups
@pytest.mark.parametrize("sudo", [False, True])
@pytest.mark.parametrize("name", [CONTAINER, "a1" * 32, "lxc.payload.web"])
def test_a_cgroup_that_a_user_calls_a_container_hides_nobody(
    people: list[Person], started: list["subprocess.Popen[bytes]"], name: str, *, sudo: bool
) -> None:
    """A process in the host's namespaces is its user's, whatever the cgroup below their manager is called."""
    uid = people[0].uid
    if sudo:
        words = ["sh", "-c", f"echo {uid} > /proc/self/loginuid; exec sleep 60"]
        process = subprocess.Popen(words)
    else:
        process = people[0].spawn("sleep", "60")
    started.append(process)
    found = whose_below(uid, name, sleeper(process.pid))
    assert (found.container, found.person) == (None, people[0].name)


@needs_cgroups
def test_a_container_below_another_users_manager_is_not_theirs(
    people: list[Person], started: list["subprocess.Popen[bytes]"]
) -> None:
    """A container in the host's namespaces below a user's manager, with another uid, proves nobody."""
    process = people[1].spawn("sleep", "60")
    started.append(process)
    found = whose_below(people[0].uid, CONTAINER, sleeper(process.pid))
    assert found.container
    assert found.person is None


BESIDE = """
import sys
from canhazgpu.events.gpu import ProcessReading
from canhazgpu.service.identity.attribution import Attributor
print(Attributor().attribute(ProcessReading(pid=int(sys.argv[1]), memory_mb=1)).evidence)
"""
HOST = """
setpriv --reuid="$1" --clear-groups sleep 600 &
until [ "$(cat /proc/$!/comm)" = sleep ]; do :; done
shift
unshare --mount sh -c "$@" $!
"""
TREE = """
set -e
mount -t tmpfs none "$1"
for one in /*; do
    if [ -L "$one" ]; then cp -a "$one" "$1$one"
    elif [ -d "$one" ] && [ "$one" != /tmp ]; then mkdir "$1$one"; mount --rbind "$one" "$1$one"; fi
done
case "$CHECKOUT" in /tmp/*) mkdir -p "$1$CHECKOUT"; mount --bind "$CHECKOUT" "$1$CHECKOUT";; esac
exec chroot "$@"
"""
CHECKOUT = str(Path(__file__).parents[2])


def test_a_service_in_a_container_of_its_own_proves_the_hosts_users(
    people: list[Person], tmp_path: Path
) -> None:
    """A service in a container with --pid=host compares root directories with that of PID 1."""
    words = ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", HOST, "sh", str(people[0].uid)]
    words += [TREE, "sh", str(tmp_path), sys.executable, "-c", BESIDE]
    environment = os.environ | {"CHECKOUT": CHECKOUT}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("uid\n", "")


def test_a_uid_in_a_tree_of_its_own_proves_nobody(
    people: list[Person], started: list["subprocess.Popen[bytes]"]
) -> None:
    """A uid in another root directory proves nobody, because its passwd may differ."""
    uid = people[0].uid
    inside = ["chroot", f"--userspec={uid}:{uid}", "/usr", "/bin/sleep", "600"]
    started.append(subprocess.Popen(["unshare", "--mount", *inside]))
    until(lambda: Path(f"/proc/{started[0].pid}/comm").read_text() == "sleep\n")
    found = whose(started[0].pid)
    assert (found.person, found.uid, found.user) == (None, None, f"uid {uid} in a container")
