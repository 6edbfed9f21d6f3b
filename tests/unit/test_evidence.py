"""The kinds of evidence for the owner of a process: what proves a user, and what does not."""

from pathlib import Path
from typing import Any

import pytest
from support.proc import Host, whose
from support.reservations import Lab, used

from canhazgpu.events.linux.processes import Process
from canhazgpu.events.open_violations import open_violations
from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.reservations.allocator import AllocationRequest

A = "a1" * 32


@pytest.fixture
def other(tmp_path: Path) -> Host:
    """Another host, as a /proc tree."""
    return Host(tmp_path)


def test_the_rungs_of_the_ladder(other: Host) -> None:
    """The uid counts first, then subordinate uids, the session's slice, and the login uid.

    Otherwise nobody is proven.
    """
    other.write("subuid", "1005:100000:65536\nnobody-has-this-name:200000:65536\nbroken\n1:2\n")
    session = "0::/user.slice/user-1001.slice/session-1.scope"
    other.put(1, 1002, session, login="1003")
    other.put(2, 100999, session, login="1003", uid_map="0 1005 1 1 100000 65536")
    other.put(3, 0, session, login="1003")
    other.put(4, 0, "0::/system.slice/cron.service", login="1003")
    other.put(5, 0, "0::/system.slice/cron.service")
    other.put(6, 200001)
    other.put(7, 70000)
    found = [other.whose(pid) for pid in range(1, 8)]
    assert [(one.uid, one.evidence) for one in found] == [
        (1002, "uid"),
        (1005, "subuid"),
        (1001, "slice"),
        (1003, "loginuid"),
        (0, "unknown"),
        (200001, "unknown"),
        (70000, "unknown"),
    ]
    assert [one.person is None for one in found] == [False] * 4 + [True] * 3
    assert [one.unnamed for one in found] == [False] * 5 + [True] * 2


def test_only_users_are_unnamed(other: Host) -> None:
    """System accounts and uids in containers or user namespaces do not count as users without a name."""
    other.put(1, 1505433401)
    other.put(2, 999)
    other.put(3, 61184)
    other.put(4, 65534)
    other.put(5, 1505433401, f"0::/system.slice/docker-{A}.scope")
    other.put(6, 1505433401, uid_map="0 1505433401 1")
    found = [other.whose(pid) for pid in range(1, 7)]
    assert [(one.unnamed, one.person) for one in found] == [(True, None)] + [(False, None)] * 5


def test_root_in_a_container_is_nobody(other: Host) -> None:
    """In a container, the login uid belongs to the user who started the runtime, so it proves nothing."""
    other.put(1, 0, f"0::/system.slice/docker-{A}.scope", login="1003")
    found = other.whose(1)
    assert (found.person, found.evidence, found.uid) == (None, "unknown", None)
    assert (found.user, found.login_uid) == ("root in docker a1a1a1a1a1a1", None)
    assert found.container
    assert (found.container.runtime, found.container.id) == ("docker", A)


@pytest.mark.parametrize("uid", [0, 1001, 1002])
@pytest.mark.parametrize("uid_map", ["0 0 4294967295", "0 200000 65536"])
def test_a_cgroup_parent_that_was_asked_for_proves_nobody(other: Host, uid: int, uid_map: str) -> None:
    """A container that root's service put below a user's manager (`--cgroup-parent`) proves nobody."""
    other.write("subuid", "1005:200000:65536\n")
    parent = "/user.slice/user-1001.slice/user@1001.service"
    mapped = uid_map.startswith("0 2")
    other.put(1, uid + 200000 * mapped, f"0::{parent}/docker-{A}.scope", uid_map=uid_map)
    found = other.whose(1)
    assert (found.person, found.evidence, found.uid) == (None, "unknown", None)


def test_a_rootless_container_is_whose_manager_it_is_below(other: Host) -> None:
    """Below a user's own manager, the uid or its subordinate range must agree with that user."""
    other.write("subuid", "1001:100000:65536\n")
    parent = "/user.slice/user-1001.slice/user@1001.service"
    for pid, uid in enumerate((1001, 100007), 1):
        other.put(pid, uid, f"0::{parent}/libpod-{A}.scope", uid_map="0 1001 1\n1 100000 65536")
    found = [other.whose(pid) for pid in (1, 2)]
    assert [(one.uid, one.evidence) for one in found] == [(1001, "slice"), (1001, "subuid")]


def test_subordinate_uids_of_root_prove_nobody(other: Host) -> None:
    """The subordinate range of root, as LXD and Proxmox use it, proves nobody."""
    other.write("subuid", "root:100000:65536\n")
    other.put(1, 101000, uid_map="0 100000 65536")
    found = other.whose(1)
    assert (found.person, found.evidence) == (None, "unknown")


@pytest.mark.parametrize("name", ["nvidia-cuda-mps-server", "nvidia-cuda-mps", "nvidia-smi"])
def test_a_name_hides_nobody(other: Host, name: str) -> None:
    """A process name does not change its owner and does not make it a known program."""
    other.put(1, 1002, name=name)
    found = other.whose(1)
    assert (found.uid, found.evidence, found.program) == (1002, "uid", None)
    assert found.person


def test_a_uid_in_a_container_proves_nobody(other: Host) -> None:
    """A uid inside a container proves nobody, because images choose their uids."""
    for pid, cgroup in enumerate(
        (f"0::/system.slice/docker-{A}.scope", f"0::/docker/{A}", f"0::/kubepods/podx/{A}", "0::/lxc/web"), 1
    ):
        other.put(pid, 1002, cgroup, login="1003")
        found = other.whose(pid)
        assert (found.person, found.evidence, found.uid) == (None, "unknown", None)
        assert found.user.startswith("uid 1002 in ")


def test_a_range_of_subordinate_uids_without_a_namespace_proves_nobody(other: Host) -> None:
    """Without a user namespace, a uid in a subordinate range proves nobody.

    A directory may use the same numbers.
    """
    other.write("subuid", "1005:100000:65536\n")
    other.put(1, 108472)
    found = other.whose(1)
    assert (found.person, found.evidence, found.uid) == (None, "unknown", 108472)


def test_services_and_nobody_are_no_persons(other: Host) -> None:
    """Services, the user nobody, and uids that systemd assigns dynamically are not users."""
    for pid, uid in enumerate((999, 61184, 65519, 65534, 65535), 1):
        other.put(pid, uid)
        assert other.whose(pid).person is None


def test_what_descends_from_a_run_is_told_by_the_kernel(other: Host) -> None:
    """A descendant of a run belongs to it, even after a change of uid or if its parents have ended."""
    attributor = other.attributor()
    other.put(10, 0, start=3)
    other.put(11, 0, start=4, parent=10)
    other.put(12, 1002, start=5, parent=11)
    other.put(13, 1002, start=5)
    before = whose(12, attributor)
    assert before.run is None
    attributor.runs = {"r7": Process(10, 3), "r8": Process(1, 1)}
    assert (whose(12, attributor).run, whose(13, attributor).run) == ("r7", None)
    other.put(12, 1002, start=5, parent=1)
    attributor.runs = {"r8": Process(1, 1)}
    assert whose(12, attributor).run == "r7"
    other.put(12, 1002, start=6, parent=10)
    attributor.runs = {"r7": Process(10, 9)}
    assert whose(12, attributor).run is None


def test_a_login_uid_is_kept_unless_the_process_has_a_persons_own_uid(other: Host) -> None:
    """After `su - bob` or `sudo slurmd`, the other user's process loses the administrator's login uid."""
    for pid, (uid, login) in enumerate(((0, "1003"), (999, "1003"), (1002, "1003"), (0, "")), 1):
        other.put(pid, uid, login=login)
    assert [other.whose(pid).login_uid for pid in range(1, 5)] == [1003, 1003, None, None]
    assert other.whose(3).uid == 1002


@pytest.mark.anyio
async def test_two_people_of_one_login_are_two(store: Store, other: Host) -> None:
    """Two users with the same login uid are two people: neither adopts or hides the use of the other."""
    other.put(1, 1002, login="1003")
    lab = Lab(store)
    await lab.scan(used(0, other.whose(1)))
    ask = AllocationRequest(kind="manual", user="u1003", uid=1003, gpus=(0,), duration_ms=1000)
    assert (await lab.allocator.reserve(ask, "first")).code == "refused"
    await lab.scan(used(0))
    await lab.reserve(uid=1003)
    for _ in range(2):
        await lab.scan(used(0, other.whose(1)))
    opened: Any = await store.redis.hgetall(store.keys.open)
    assert [(one.kind, one.uid) for one in open_violations(opened)] == [("trespass", 1002)]


@pytest.mark.anyio
async def test_the_ranges_of_users_are_those_of_now(other: Host) -> None:
    """Changed ranges of uids count from the next scan on."""
    attributor = other.attributor()
    other.put(1, 100999, uid_map="0 1005 1 1 100000 65536")
    other.put(2, 70000)
    assert (whose(1, attributor).person, whose(2, attributor).person) == (None, None)
    other.write("subuid", "1005:100000:65536\n")
    other.write("login.defs", "UID_MIN 1000\nUID_MAX 80000\n")
    assert await attributor.settle()
    found = [whose(pid, attributor) for pid in (1, 2)]
    assert [(one.uid, one.evidence) for one in found] == [(1005, "subuid"), (70000, "uid")]
    (other.etc / "subuid").unlink()
    assert await attributor.settle()
    assert whose(1, attributor).person is None
    assert not await attributor.settle()
