"""How GPUs and MIG instances are counted: `find`, the page of all hosts, `top`, and the page of the host."""

import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.daemon import COMMAND, Daemon, gpu, until
from support.fleet import fleet_server
from support.mig import instance
from support.older_service import older_service
from support.programs import need
from support.screens import Screen
from support.web import page_of

A100 = "NVIDIA A100"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A host of a fleet: GPU 0 is divided into three instances, of which 0:0 is reserved; GPU 1 is not."""
    with (
        fleet_server(tmp_path_factory.mktemp("fleet")) as server,
        tempfile.TemporaryDirectory(prefix="chg-", dir="/tmp") as folder,
    ):
        made = Daemon(Path(folder), f'[fleet]\nurl = "redis://127.0.0.1:{server.port}"\ninterval = "1s"\n')
        instances = [instance(number, "1g.10gb", f"MIG-{number}") for number in range(2)]
        made.place(gpu(0, name=A100), *instances, instance(2, "3g.40gb", "MIG-2"), gpu(1, name=A100))
        made.start()
        assert made.run("reserve", "--gpu-ids", "0:0").returncode == 0
        until(lambda: '"IN_USE"' in made.run("status", "--all", "--json").stdout)
        yield made
        made.stop()


def found(host: Daemon, *words: str) -> list[tuple[Any, ...]]:
    """Return what `find` says of the host."""
    rows = json.loads(host.run("find", *words, "--json").stdout or "[]")
    return [(row["now"], row["free"], row["gpus"], row["models"]) for row in rows]


def test_find_counts_gpus_that_are_not_divided(host: Daemon) -> None:
    """An instance is no GPU of a number of GPUs, and neither is its card."""
    assert found(host) == [(True, 1, 1, [A100])]
    none = host.run("find", "--gpus", "2")
    assert (none.returncode, none.stderr) == (1, "Error: no host of the fleet has 2 GPUs\n")


def test_find_instances_of_a_profile(host: Daemon) -> None:
    """With --mig; in whatever case it is written."""
    assert found(host, "--mig", "1G.10GB") == [(True, 1, 2, [f"{A100} MIG 1g.10gb"])]
    assert [one[:3] for one in found(host, "--mig", "1g.10gb:2")] == [(False, 1, 2)]
    none = host.run("find", "--mig", "7g.80gb")
    assert none.stderr == "Error: no host of the fleet has 1 MIG instance 7g.80gb\n"
    both = host.run("find", "--mig", "1g.10gb", "--gpus", "2")
    assert (both.returncode, "cannot be used together" in both.stderr) == (2, True)


def test_an_older_service_finds_no_instances(host: Daemon) -> None:
    """It does not know the option, so what it finds is not shown."""
    place = host.folder / "older"
    with older_service(host.folder / "s", place):
        environment = {**host.environment, "CANHAZGPU_SOCKET": str(place)}
        words = [*COMMAND, "find", "--mig", "1g.10gb"]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("Error: the service is older than this command")
        done = subprocess.run(words[:-2], env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_the_page_of_all_hosts(host: Daemon) -> None:
    """It counts GPUs that are not divided, and instances, each for themselves."""
    total = "1 hosts with 1 GPU and 3 MIG instances, of which 1 GPU and 2 MIG instances are available now"
    with page_of(host) as page:
        text = until(lambda: total in (text := page.get("/hosts").text) and text, 30)
        cells = re.findall(r"<td data-head=\"([^\"]*)\">([^<]*)</td>", text)
        assert ("GPUs", "1 + 3 MIG") in cells
        assert ("Available", "1 + 2 MIG") in cells
        assert ("In other states", "1 MIG reserved") in cells
        assert "1 GPU and 3 MIG instances: 3 available, 1 reserved" in page.get("/").text


def test_the_first_line_of_top(host: Daemon) -> None:
    """It counts them like that too."""
    need("tmux")
    screen = Screen([*COMMAND, "top", "-i", "500ms"], host.environment, width=110, height=32)
    try:
        until(lambda: "canhazgpu top  1 GPU and 3 MIG instances: 3 free, 1 reserved" in screen.text, 20)
    finally:
        screen.close()
