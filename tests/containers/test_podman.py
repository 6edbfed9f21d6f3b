"""Containers of Podman are attributed like those of Docker."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.daemon import Daemon, gpu, until, use
from support.dockerd import Serve
from support.people import Person
from support.podman import Podman, podman_absent

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(bool(podman_absent()), reason=podman_absent() or "it is there"),
]


def listed(host: Daemon, *words: str) -> list[dict[str, Any]]:
    """Return what a command prints as JSON."""
    return list(json.loads(host.run(*words, "--json").stdout))


@contextmanager
def containers(person: Person | None = None) -> Iterator[Podman]:
    """Run containers of root or of a person until the block ends."""
    with tempfile.TemporaryDirectory(prefix="chg-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        made = Podman(Path(name), person)
        try:
            yield made
        finally:
            made.stop()


@pytest.mark.parametrize("options", [(), ("--user={uid}",), ("--user={uid}", "--cgroup-parent={manager}")])
def test_nobody_is_proven_by_a_container_of_roots(
    serve: Serve, people: list[Person], options: tuple[str, ...]
) -> None:
    """A container of root's proves no user, whatever its uid and cgroup are."""
    uid = people[0].uid
    manager = f"/user.slice/user-{uid}.slice/user@{uid}.service"
    with containers() as podman:
        box = podman.start(*(option.format(uid=uid, manager=manager) for option in options))
        host = serve()
        host.place(gpu(0, use(box.pid, 900)), gpu(1))
        (found,) = until(lambda: listed(host, "violations", "--open"))
        assert (found["person"], found["uid"], found["evidence"]) == (None, None, "unknown")
        (process,) = found["processes"]
        assert (process["container"]["runtime"], process["container"]["id"]) == ("podman", box.id)
        assert host.run("reserve", "--gpu-ids", "0", "--nonblock", person=people[0]).returncode == 1


def test_a_holders_container_is_presumed_to_be_theirs(serve: Serve, people: list[Person]) -> None:
    """A container that starts on a reserved GPU without a hint at another user is no violation."""
    with containers() as podman:
        host = serve()
        assert host.run("reserve", "--gpu-ids", "0", person=people[0]).returncode == 0
        box, other = podman.start(), podman.start()
        host.place(gpu(0, use(box.pid, 900)), gpu(1, use(other.pid, 900)))
        rows = until(
            lambda: (now := json.loads(host.run("status", "--json").stdout))[1]["violations"] and now
        )
        assert rows[0]["violations"] == []
        assert [one["pid"] for one in rows[0]["presumed"]] == [box.pid]


def test_a_rootless_container_is_its_users(serve: Serve, people: list[Person]) -> None:
    """A rootless container belongs to the user who made its namespace, whatever the uid of its process."""
    with ExitStack() as running:
        podman = running.enter_context(containers(people[0]))
        boxes = [podman.start(), podman.start("--user=1000")]
        host = serve()
        host.place(*(gpu(index, use(box.pid, 900)) for index, box in enumerate(boxes)))
        found = until(
            lambda: (
                len(now := json.loads(host.run("violations", "--open", "--json").stdout)) == len(boxes)
                and now
            )
        )
        by_gpu = {one["gpu"]: (one["person"], one["evidence"]) for one in found}
        assert by_gpu == {0: (people[0].name, "uid"), 1: (people[0].name, "subuid")}
