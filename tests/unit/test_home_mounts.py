"""The owner of a mounted home, by mapping mounts to paths of the host."""

import os
import time
from pathlib import Path

import pytest
from support.people import Person
from support.proc import Host

from canhazgpu.service.identity import slow_files
from canhazgpu.service.identity.home_mounts import HomeMounts, Mounted
from canhazgpu.service.identity.ordinary_users import OrdinaryUsers
from canhazgpu.service.identity.user_names import Users

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root may make users")
A = "a1" * 32
HOST = "27 1 254:0 / / rw - ext4 /dev/vda rw\n22 27 0:21 / /proc rw - proc proc rw\n"


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Another host with one file system, as process 1 sees it; its files answer, if slowly."""
    monkeypatch.setattr(slow_files, "PATIENCE", 60.0)
    host = Host(tmp_path)
    host.give(1, mountinfo=HOST)
    return host


def mounted(host: Host, *mounts: str, container: str | None = A) -> list[Mounted]:
    """Return the owners of the homes that a process with these mounts has.

    Each is `device root point options`.
    """
    rows = [mount.split(" ") for mount in mounts]
    lines = [f"9 8 {row[0]} {row[1]} {row[2]} {row[3]} master:1 - ext4 /dev/vda rw" for row in rows]
    host.give(7, mountinfo="\n".join(lines))
    users = Users()
    return HomeMounts(users, OrdinaryUsers(users, host.etc), host.proc).mounted(
        7, container, time.monotonic() + 120
    )


def test_a_home_and_what_is_in_it(other: Host, people: list[Person]) -> None:
    """A mounted home is found wherever it is mounted, with its writability."""
    one, two = people
    found = mounted(
        other, f"254:0 /home/{one.name}/my\\040data /d rw", f"254:0 /home/{two.name} /root ro,relatime"
    )
    assert found == [
        Mounted(one.uid, f"/home/{one.name}/my data", writable=True),
        Mounted(two.uid, f"/home/{two.name}", writable=False),
    ]


@pytest.mark.parametrize(
    "mount",
    ["254:0 / /host rw", "254:0 /home /home rw", "254:0 /data/sets /data rw", "254:0 /root /r rw",
     "254:0 /home/no-user-has-this /h rw", "254:9 /home/{name} /h rw", "254:0 /srv/home/{name} /h rw",
     "254:0 /home/{name} / rw", "254:0 /var/cache/man /m rw"],
)  # fmt: skip
def test_what_is_nobodys_home(other: Host, people: list[Person], mount: str) -> None:
    """Shared folders, homes of system users, lookalikes and foreign file systems give no owner."""
    assert mounted(other, mount.format(name=people[0].name)) == []


def test_a_home_on_a_file_system_of_its_own(other: Host, people: list[Person]) -> None:
    """A home on a file system of its own is found at every place where the host has mounted it."""
    name, uid = people[0].name, people[0].uid
    other.give(1, mountinfo=HOST + "28 27 254:1 / /home rw - xfs /dev/vdb rw\n")
    assert mounted(other, f"254:1 /{name}/x /d rw") == [Mounted(uid, f"/home/{name}/x", writable=True)]
    other.give(1, mountinfo=HOST + f"28 27 0:52 / /home/{name} rw - nfs4 server:/export rw\n")
    assert mounted(other, "0:52 / /d rw") == [Mounted(uid, f"/home/{name}", writable=True)]
    other.give(1, mountinfo=HOST + "28 27 254:0 /export/home /home rw - ext4 /dev/vda rw\n")
    assert mounted(other, f"254:0 /export/home/{name} /d rw") == [
        Mounted(uid, f"/home/{name}", writable=True)
    ]


def test_a_home_behind_a_link(other: Host, people: list[Person]) -> None:
    """A home behind a link is found by the path that the link leads to."""
    root = other.proc / "1/root"
    (root / "big/homes").mkdir(parents=True)
    (root / "home").symlink_to("/big/homes")
    assert [
        one.uid for one in mounted(other, f"254:0 /big/homes/{people[0].name} /d rw")
    ] == [people[0].uid]  # fmt: skip


def test_a_home_that_is_not_named_as_its_user(other: Host, people: list[Person]) -> None:
    """A home whose folder has another name is found by its owner in the user database."""
    one = people[0]
    (other.proc / "1/root/home/CORP/ada").mkdir(parents=True)
    os.chown(other.proc / "1/root/home/CORP/ada", one.uid, one.gid)
    assert mounted(other, "254:0 /home/CORP/ada /d rw") == []
    one.set_home("/home/CORP/ada")
    assert [found.uid for found in mounted(other, "254:0 /home/CORP/ada/x /d rw")] == [one.uid]


def test_a_home_of_two_is_nobodys(other: Host, people: list[Person]) -> None:
    """A home that two users share has no owner."""
    one, two = people
    folder = other.proc / f"1/root/home/{one.name}"
    folder.mkdir(parents=True)
    os.chown(folder, two.uid, two.gid)
    two.set_home(f"/home/{one.name}")
    assert mounted(other, f"254:0 /home/{one.name} /d rw") == []


def test_what_the_service_keeps_in_a_home_is_not_mounted_by_anybody(
    other: Host, people: list[Person]
) -> None:
    """A folder of the container service inside a home gives no owner."""
    home = f"/home/{people[0].name}"
    mounts = [
        f"254:0 {home}/docker/containers/{A}/hostname /etc/hostname rw",
        f"254:0 {home}/docker/volumes/sets/_data /data rw",
    ]
    assert mounted(other, *mounts) == []
    assert [one.path for one in mounted(other, *mounts, f"254:0 {home}/job /job rw")] == [f"{home}/job"]
    other.give(1, mountinfo=HOST + "28 27 254:1 / /var/lib/docker rw - xfs /dev/vdb rw\n")
    own = f"254:1 /containers/{A}/hosts /etc/hosts rw"
    assert [one.path for one in mounted(other, own, f"254:0 {home}/job /job rw")] == [f"{home}/job"]


def test_a_list_of_mounts_without_end_is_not_read_to_it(other: Host, people: list[Person]) -> None:
    """A list of mounts is read only up to its maximum length."""
    many = [f"254:0 /data/{number} /d/{number} rw" for number in range(20000)]
    began = time.monotonic()
    assert mounted(other, *many, f"254:0 /home/{people[0].name} /d rw") == []
    assert time.monotonic() - began < 50
