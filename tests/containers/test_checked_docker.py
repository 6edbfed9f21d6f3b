"""Docker starts a container only on GPUs that the user who started it has reserved: all ways to get a GPU."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.checked_containers import Bundle, CheckedHost, checked_docker, uuid
from support.people import Person

pytestmark = [pytest.mark.docker, pytest.mark.slow(120)]
PAGE = Path(__file__).parents[2] / "docs" / "integrations" / "containers.md"
HOLDER, OTHER, NOBODY = "the holder of GPU 0", "the holder of GPU 1", "plain `docker run`"
WHO = (HOLDER, OTHER, NOBODY)
WAYS = {
    "`--gpus all`": ["--gpus=all"],
    "`--gpus device=0`": ["--gpus=device=0"],
    "`NVIDIA_VISIBLE_DEVICES=0`": ["--runtime=nvidia", "--env=NVIDIA_VISIBLE_DEVICES=0"],
    "`--device /dev/nvidia0`": ["--device={nvidia0}"],
}
CDI = "`nvidia.com/gpu=0` (CDI)"
MODES = ("enforce", "warn")


@pytest.fixture(scope="module")
def host() -> Iterator[CheckedHost]:
    """A service and a Docker that asks it."""
    with checked_docker() as found:
        yield found


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A container for runc."""
    return Bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def holders(host: CheckedHost, people: list[Person]) -> Iterator[dict[str, Person]]:
    """Users who hold GPU 0 and GPU 1."""
    for index, person in enumerate(people):
        done = host.service.run("reserve", "--gpu-ids", str(index), person=person)
        assert done.returncode == 0, done.stderr
    yield dict(zip((HOLDER, OTHER), people, strict=True))
    host.service.run("admin", "release", "--all")


def attempt(host: CheckedHost, holders: dict[str, Person], who: str, options: list[str]) -> str:
    """Start a container; return what came of it."""
    before = host.warnings()
    words = host.container(*(option.format(nvidia0=host.device(0)) for option in options))
    index = {HOLDER: 0, OTHER: 1}.get(who)
    done = host.run(*words, person=holders.get(who), run=f"--gpu-ids {index}" if who in holders else "")
    if done.returncode != 0:
        (line,) = [line for line in done.stderr.splitlines() if "canhazgpu: " in line]
        assert "the container was not started: " in line
        assert "nothing proves" in line if who == NOBODY else holders[who].name in line
        return "refused"
    environment = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert "CANHAZGPU_TOKEN" not in environment
    assert ("CANHAZGPU_RESERVATION" in environment) == (who in holders)
    if environment.get("NVIDIA_VISIBLE_DEVICES") == uuid(index or 0):
        return f"GPU {index} only"
    return outcome(host, before)


def attempt_cdi(host: CheckedHost, holders: dict[str, Person], bundle: Bundle, who: str) -> str:
    """Start a container with a CDI device as containerd does; return what came of it."""
    token: list[str] = []
    if who in holders:
        words = ["run", "--gpu-ids", str(WHO.index(who)), "--", "env"]
        lines = host.service.run(*words, person=holders[who]).stdout.splitlines()
        token = [line for line in lines if line.startswith("CANHAZGPU_TOKEN=")]
        assert token
    before = host.warnings()
    device = {"path": "/dev/nvidia0", "type": "c", "major": 195, "minor": 0}
    bundle.configure(
        env=token, annotations={"cdi.k8s.io/gpu": "nvidia.com/gpu=0"}, linux={"devices": [device]}
    )
    script = str(host.folder / "docker" / "canhazgpu-runtime-canhazgpu")
    done = bundle.run(script, name=f"cdi-{host.folder.name}")
    if done.returncode != 0:
        assert done.stderr.startswith("canhazgpu: the container was not started: "), done.stderr
        return "refused"
    assert "CANHAZGPU_TOKEN" not in done.stdout
    return outcome(host, before)


def outcome(host: CheckedHost, before: int) -> str:
    """Return whether the service has warned of a container that started, and warned of this many before."""
    return "starts" if host.warnings() == before else "starts with a warning"


def test_the_table_of_the_page(host: CheckedHost, holders: dict[str, Person], bundle: Bundle) -> None:
    """Each way to get a GPU is tried by each user in each mode, and the page shows what came of it."""
    found = {}
    for mode in MODES:
        host.set_mode(mode)
        for who in WHO:
            for way, options in WAYS.items():
                found[way, who, mode] = attempt(host, holders, who, options)
            found[CDI, who, mode] = attempt_cdi(host, holders, bundle, who)
    rows = [["GPUs", "mode", *WHO], ["---"] * (2 + len(WHO))]
    rows += [
        [way, f"`{mode}`", *(found[way, who, mode] for who in WHO)] for way in [*WAYS, CDI] for mode in MODES
    ]
    table = (
        "".join(f"| {' | '.join(row)} |\n" for row in rows).replace("| --- ", "|---").replace("--- |", "---|")
    )
    assert table in PAGE.read_text(), table


def test_a_number_of_gpus_is_one_of_the_reserved_ones(host: CheckedHost, people: list[Person]) -> None:
    """On two reserved GPUs, `--gpus 1` starts a container on one of them."""
    host.set_mode("enforce")
    done = host.run(*host.container("--gpus", "1"), person=people[0], run="--gpus 2")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"NVIDIA_VISIBLE_DEVICES={uuid(0)}\n" in done.stdout
