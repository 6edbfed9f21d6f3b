"""What a process calls itself exempts nobody, and what root's programs use accuses nobody."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import Daemon, gpu, until, use
from support.people import Person

SERVER, PERSISTENCED = "nvidia-cuda-mps-server", "nvidia-persistenced"
pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can install root's programs")


@pytest.fixture
def roots(folder: Path) -> Iterator[Path]:
    """A place of root's, with root's programs; users have copies of them in `folder`."""
    place = Path(tempfile.mkdtemp(prefix="canhazgpu-test-", dir="/usr/local/lib"))
    place.chmod(0o755)
    for name in (SERVER, PERSISTENCED, "Xorg"):
        for target in (place / name, folder / name):
            shutil.copy(shutil.which("sleep") or "/bin/sleep", target)
    yield place
    shutil.rmtree(place)


@pytest.fixture
def served(roots: Path) -> Iterator[dict[str, int]]:
    """Root's programs, by name."""
    running = {name: subprocess.Popen([roots / name, "600"]) for name in (SERVER, PERSISTENCED)}
    yield {name: process.pid for name, process in running.items()}
    for process in running.values():
        process.kill()
        process.wait()


RENAMED = '$0 = "nvidia-smi"; sleep 600'


@pytest.mark.parametrize("name", ["nvidia-smi", "Xorg", PERSISTENCED])
def test_a_users_program_with_the_name_of_an_exempt_one_is_use(
    host: Daemon, roots: Path, folder: Path, people: list[Person], name: str
) -> None:
    """A name that it gave itself, or a copy of the program: its user is told off, and nobody gets the GPU."""
    del roots
    words = ["perl", "-e", RENAMED] if name == "nvidia-smi" else [str(folder / name), "600"]
    process = people[0].spawn(*words)
    until(lambda: Path(f"/proc/{process.pid}/comm").read_text() == f"{name[:15]}\n")
    host.place(gpu(0, use(process.pid, 900)))
    line = f"GPU 0: IN USE WITHOUT RESERVATION by user {people[0].name} - 900MB"
    until(lambda: host.status().startswith(line))
    assert host.run("reserve", person=people[1]).returncode == 1
    (fact,) = until(host.facts)
    assert (fact["person"], fact["processes"][0]["name"]) == (people[0].name, name[:15])


def test_roots_programs_are_exempt_up_to_an_amount(host: Daemon, served: dict[str, int]) -> None:
    """The longest default name is exempt, and so is a server without clients; not with much memory."""
    for name in (PERSISTENCED, SERVER):
        host.place(gpu(0, use(served[name], 300)))
        until(lambda pid=served[name]: kept(host) == [pid])  # type: ignore[misc]
        assert "GPU 0: AVAILABLE" in host.status()
        host.place(gpu(0, use(served[name], 20000)))
        until(lambda: "GPU 0: IN USE WITHOUT RESERVATION by user root - 20000MB" in host.status())


def test_a_shared_server_beside_its_holders_clients_is_nobodys(
    host: Daemon, served: dict[str, int], folder: Path, people: list[Person]
) -> None:
    """Root's MPS server is no trespass on a reserved GPU; another user's program of that name is."""
    alice, bob = people
    host.place(gpu(0))
    assert host.run("reserve", "--gpu-ids", "0", person=alice).returncode == 0
    client, fake = alice.spawn("sleep", "600"), bob.spawn(str(folder / SERVER), "600")
    host.place(gpu(0, use(client.pid, 900), use(served[SERVER], 30)))
    until(lambda: "[validated: 900MB, 1 processes]" in host.status())
    host.place(gpu(0, use(client.pid, 900), use(served[SERVER], 30), use(fake.pid, 30)))
    (fact,) = until(host.facts)
    assert (fact["kind"], fact["person"]) == ("trespass", bob.name)
    assert [one["pid"] for one in fact["processes"]] == [fake.pid]


def kept(host: Daemon) -> list[int]:
    """Return the exempt processes that the last scan saw on GPU 0."""
    with host.redis() as redis:
        usage = json.loads(redis.hget("canhazgpu:{testhost}:gpu:0", "usage"))
    return [one["pid"] for one in usage["exempt"]]
