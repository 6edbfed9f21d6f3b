"""Podman runs the hook before each container; the kernel says whose container it is."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
from support.checked_containers import CheckedHost, checked_host
from support.dockerd import IMAGE
from support.people import Person
from support.podman import Podman, podman_absent

from canhazgpu.cli.operations.container_files import ROOTLESS

ROOT = Path(__file__).parents[2]
PYTHON = "/usr/bin/python3"
PROGRAM = """#!/bin/sh
PYTHONPATH={folder} PYTHONDONTWRITEBYTECODE=1 exec /usr/bin/python3 -c \
    'from canhazgpu.cli.main import main; main()' "$@"
"""


def systems_python() -> str:
    """Return the version of the Python that every user can run."""
    words = [PYTHON, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


pytestmark = [
    pytest.mark.docker,
    pytest.mark.slow(60),
    pytest.mark.skipif(bool(podman_absent()), reason=podman_absent() or "it is there"),
]


def everybodys_program(folder: Path, hook: Path) -> None:
    """Make the hook run a copy of the program that every user can read, as they may not read the checkout."""
    if systems_python() != f"{sys.version_info.major}.{sys.version_info.minor}":
        pytest.skip("the packages of this Python cannot be used by the system's, which every user can run")
    for name in ("cli", "client", "config", "events"):
        shutil.copytree(ROOT / name, folder / "canhazgpu" / name)
    site = Path(msgspec.__file__).parents[1]
    for name in ("msgspec", "typer", "click", "shellingham", "annotated_doc", "typing_extensions.py"):
        copy = shutil.copytree if (site / name).is_dir() else shutil.copy
        copy(site / name, folder / name)
    script = folder / "canhazgpu.sh"
    script.write_text(PROGRAM.format(folder=folder))
    script.chmod(0o755)
    found = json.loads(hook.read_text())
    found["hook"]["path"] = str(script)
    hook.write_text(json.dumps(found))


@pytest.fixture(scope="module")
def host() -> Iterator[CheckedHost]:
    """A service that refuses, and a directory with the hook."""
    with checked_host() as found:
        found.install("podman", found.folder / "hooks")
        everybodys_program(found.folder / "program", found.folder / "hooks" / "canhazgpu.json")
        found.set_mode("enforce")
        yield found


@pytest.fixture
def engines(host: CheckedHost, people: list[Person]) -> Iterator[dict[str, Podman]]:
    """Podman of root's and of the first person's; nothing is reserved in the end."""
    with ExitStack() as running:
        made = {}
        for name, person in (("root", None), ("rootless", people[0])):
            folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="chg-", dir="/tmp")))
            folder.chmod(0o755)
            made[name] = Podman(folder, person)
            running.callback(made[name].stop)
        yield made
    host.service.run("admin", "release", "--all")


def start(host: CheckedHost, podman: Podman, *before: str, options: tuple[str, ...]) -> str:
    """Start a container that ends at once; return what Podman prints if it fails."""
    settings = host.folder / "containers.conf"
    settings.write_text(ROOTLESS.format(folders=json.dumps([str(host.folder / "hooks")])))
    words = podman.command("run", "--rm", "--network=none", *podman.limits(), *options, IMAGE, "true")
    done = subprocess.run(
        [*before, *words],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={
            **podman.environment,
            "CONTAINERS_CONF": str(settings),
            **{k: v for k, v in host.service.environment.items() if "CANHAZ" in k},
        },
        timeout=60,
    )
    assert done.returncode == 0 or "canhazgpu: the container was not started: " in done.stderr, done.stderr
    return done.stderr if done.returncode else ""


def test_a_rootless_container_is_its_users(
    host: CheckedHost, engines: dict[str, Podman], people: list[Person]
) -> None:
    """It starts on the GPU that its user has reserved, and on no other."""
    ada = people[0]
    assert host.service.run("reserve", "--gpu-ids", "0", person=ada).returncode == 0
    for index, said in enumerate(("", f"{ada.name} has not reserved its GPUs (GPU 1: not reserved)")):
        device = host.device(index)
        found = start(host, engines["rootless"], options=(f"--volume={device}:/dev/nvidia0",))
        assert said in found
        assert said or not found


def test_with_sudo_it_is_the_user_who_logged_in(
    host: CheckedHost, engines: dict[str, Podman], people: list[Person]
) -> None:
    """Root's Podman has no daemon, so the kernel knows the login of the user who called it."""
    ada = people[0]
    assert host.service.run("reserve", "--gpu-ids", "0", person=ada).returncode == 0
    device = (f"--device={host.device(0)}:/dev/nvidia0",)
    assert start(host, engines["root"], *ada.sudo(), options=device) == ""
    assert "root has not reserved its GPUs" in start(host, engines["root"], options=device)
    assert people[1].name in start(host, engines["root"], *people[1].sudo(), options=device)


def test_a_container_without_gpus_needs_nothing(host: CheckedHost, engines: dict[str, Podman]) -> None:
    """The service is not asked."""
    assert start(host, engines["root"], options=()) == ""
