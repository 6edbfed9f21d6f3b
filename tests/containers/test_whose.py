"""The uid of a process in a container is never taken for the host's user with that uid."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.daemon import Daemon, gpu, until, use
from support.dockerd import Box, Dockerd, Serve, dockerd
from support.people import Person, Terminal

pytestmark = pytest.mark.docker
ENDING = """
[[notices.steps]]
channels = ["wall", "log"]
to = ["offender"]
[[notices.steps]]
after = "1s"
channels = ["terminate"]
to = ["offender"]
[notices.terminate]
enabled = true
dry_run = false
after_notices = 1
interrupt_grace = "300ms"
terminate_grace = "300ms"
max_per_hour = 10
"""


class Boxes:
    """Containers of every kind whose process has the uid of a host's user, or root's."""

    def __init__(self, docker: Dockerd, person: Person, running: ExitStack) -> None:
        self._docker, self._person, self._running = docker, person, running

    def start(self, kind: str) -> Box:
        """Start one."""
        if kind == "root":
            return self._docker.start()
        if kind == "a user of the image":
            self._docker.build("jovyan:test", f"USER {self._person.uid}")
            return self._docker.start(image="jovyan:test")
        if kind == "--user":
            return self._docker.start("--user", f"{self._person.uid}:{self._person.gid}")
        if kind == "--pid=host":
            return self._docker.start("--pid=host", "--user", str(self._person.uid))
        if "--cgroup-parent" in kind:
            uid = self._person.uid
            manager = f"--cgroup-parent=/user.slice/user-{uid}.slice/user@{uid}.service"
            return self._docker.start(manager, *([f"--user={uid}"] if "--user" in kind else []))
        return self._remapped(root=kind == "root, remapped")

    def _remapped(self, *, root: bool) -> Box:
        """Start one in root's user namespace, where the uid on the host is by chance the person's."""
        folder = Path(self._running.enter_context(tempfile.TemporaryDirectory(prefix="chg-", dir="/tmp")))
        folder.chmod(0o755)
        remap = Person()
        self._running.callback(remap.remove)
        (row,) = (
            line for line in Path("/etc/subuid").read_text().splitlines() if line.startswith(f"{remap.name}:")
        )
        first = int(row.split(":")[1])
        self._person.set_uid(first if root else first + 1000)
        docker = self._running.enter_context(dockerd(folder, f"--userns-remap={remap.name}"))
        return docker.start() if root else docker.start("--user", "1000")


ROOTS = {"root", "--cgroup-parent"}  # With root's uid on the host.
KINDS = [
    "root",
    "a user of the image",
    "--user",
    "--pid=host",
    "--cgroup-parent",
    "--cgroup-parent --user",
    "root, remapped",
    "--user, remapped",
]


@pytest.fixture
def boxes(docker: Dockerd, people: list[Person]) -> Iterator[Boxes]:
    """Containers that end with the test; the person is the first one."""
    with ExitStack() as running:
        yield Boxes(docker, people[0], running)


def uid_of(pid: int) -> int:
    """Return the uid of a process on the host."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("\nUid:\t")[1].split("\t")[0])


def violations(host: Daemon) -> dict[int, dict[str, Any]]:
    """Return the open violations by GPU."""
    found = json.loads(host.run("violations", "--open", "--json").stdout)
    return {one["gpu"]: one for one in found}


def recipients(host: Daemon) -> set[str]:
    """Return to whom a notice was sent."""
    return {one["recipient"] for one in json.loads(host.run("deliveries", "--json").stdout)}


def signalled(host: Daemon) -> set[int]:
    """Return which processes the audit log says were sent a signal."""
    lines = (host.folder / "violations.log").read_text().splitlines()
    return {int(one["pid"]) for one in map(json.loads, lines) if "signal" in one}


@pytest.mark.parametrize("kind", KINDS)
def test_for_a_container_no_user_is_notified_or_terminated(
    serve: Serve, docker: Dockerd, boxes: Boxes, people: list[Person], kind: str
) -> None:
    """For unproven containers only administrators are notified; a proven user is notified and terminated."""
    box = boxes.start(kind)
    assert uid_of(box.pid) == (0 if kind in ROOTS else people[0].uid)
    ada, bob = Terminal(people[0]), Terminal(people[1])
    try:
        host = serve(docker, ENDING)
        host.place(gpu(0, use(box.pid, 900)), gpu(1))
        found = until(lambda: violations(host).get(0))
        assert (found["person"], found["uid"], found["evidence"]) == (None, None, "unknown")
        until(lambda: "admins" in host.run("deliveries", "--json").stdout)
        host.place(gpu(0, use(box.pid, 900)), gpu(1, use(bob.leader.pid, 900)))
        until(lambda: bob.leader.poll() is not None, 20)
        until(lambda: "GPU 1" in bob.text)
        assert ada.text == ""
        assert Path(f"/proc/{box.pid}").exists()
        told = until(lambda: people[1].name in (now := recipients(host)) and now)
        assert people[0].name not in told
        assert until(lambda: signalled(host)) == {bob.leader.pid}
    finally:
        ada.close()
        bob.close()


@pytest.mark.parametrize("kind", KINDS)
def test_reserve_does_not_adopt_a_container(
    serve: Serve, docker: Dockerd, boxes: Boxes, people: list[Person], kind: str
) -> None:
    """`reserve` gives users the GPUs of their own processes, but not those of containers with their uid."""
    box = boxes.start(kind)
    own = people[0].spawn("sleep", "600")
    host = serve(docker)
    host.place(gpu(0, use(box.pid, 900)), gpu(1, use(own.pid, 900)))
    until(lambda: len(violations(host)) == 2)
    refused = host.run("reserve", "--gpu-ids", "0", "--nonblock", person=people[0])
    assert refused.returncode == 1, refused.stdout
    adopted = host.run("reserve", "--gpu-ids", "1", "--nonblock", person=people[0])
    assert adopted.returncode == 0, adopted.stderr
    rows = json.loads(host.run("status", "--json").stdout)
    assert [row["status"] for row in rows] == ["UNRESERVED", "IN_USE"]
    assert rows[0]["users"] != [people[0].name]


def test_a_rootless_container_is_its_users(serve: Serve, people: list[Person]) -> None:
    """A rootless container belongs to the user who made its namespace, whatever the uid of its process."""
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="chg-", dir="/tmp")))
        docker = running.enter_context(dockerd(folder, person=people[0]))
        boxes = [docker.start(), docker.start("--user", str(people[1].uid))]
        host = serve()
        host.place(*(gpu(index, use(box.pid, 900)) for index, box in enumerate(boxes)))
        found = until(lambda: len(now := violations(host)) == 2 and now)
        assert [found[index]["person"] for index in (0, 1)] == [people[0].name] * 2
        assert [found[index]["evidence"] for index in (0, 1)] == ["uid", "subuid"]
        kept = host.run("reserve", "--gpu-ids", "0,1", "--nonblock", person=people[1])
        assert kept.returncode == 1
        assert host.run("reserve", "--gpu-ids", "0,1", "--nonblock", person=people[0]).returncode == 0
