"""docs/integrations/python.md: each program, with the real library and without a GPU."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import COMMAND, Daemon, until

pytestmark = [pytest.mark.recipe, pytest.mark.timeout(300)]
ROOT = Path(__file__).parents[2]
PYTHON = ROOT / "build" / "recipes" / "bin" / "python"
PAGE = (ROOT / "docs" / "integrations" / "python.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n)+)", PAGE, re.MULTILINE))


@pytest.fixture
def free(lasting_host: Daemon) -> Iterator[Daemon]:
    """A host with four free GPUs, and the programs of the page."""
    until(lambda: lasting_host.status().count("AVAILABLE") == 4)
    for section in SECTIONS.values():
        (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
        name = re.search(r"^`(\w+\.py)`:$", section, re.MULTILINE)
        (lasting_host.folder / (name[1] if name else "program.py")).write_text(code)
    yield lasting_host
    assert json.loads(lasting_host.run("env", "--json").stdout) == []
    until(lambda: lasting_host.status().count("AVAILABLE") == 4)


def execute(host: Daemon, *words: str | Path) -> str:
    """Return what a command prints."""
    path = f"{PYTHON.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        words,
        cwd=host.folder,
        env={**host.environment, "PATH": path, "RAY_USAGE_STATS_ENABLED": "0", "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done
    return done.stdout


def launched(host: Daemon, heading: str) -> str:
    """Return what the launch command of a section prints."""
    (line,) = re.findall(r"^    canhazgpu (.+)$", SECTIONS[heading], re.MULTILINE)
    return execute(host, *COMMAND, *line.split())


def program(host: Daemon, heading: str) -> tuple[str, list[int]]:
    """Return what the program of a section used, and what was reserved."""
    (code,) = re.findall(r"```python\n(.*?)```", SECTIONS[heading], re.DOTALL)
    (host.folder / "program.py").write_text(code)
    found = re.search(r"^used: (.+) reserved: (.+)$", execute(host, PYTHON, "program.py"), re.MULTILINE)
    assert found
    return found[1], json.loads(found[2])


def test_lightning(free: Daemon) -> None:
    """It trains under `run`, with the devices that it finds."""
    assert launched(free, "PyTorch Lightning").splitlines()[-1] == "steps: 3"


def test_accelerate(free: Daemon) -> None:
    """Its launcher works under `run`, and so do several processes, which it starts only if there are GPUs."""
    assert launched(free, "Hugging Face Accelerate") == "process 0 of 1\n"
    run = [*COMMAND, "run", "--gpus", "2", "--"]
    said = execute(free, *run, "torchrun", "--nproc-per-node", "2", "accelerate_train.py")
    assert sorted(said.splitlines()) == ["process 0 of 2", "process 1 of 2"]


def test_ray(free: Daemon) -> None:
    """Each task gets one of the reserved GPUs."""
    used, reserved = program(free, "Ray on one node")
    assert used == str([str(gpu) for gpu in reserved])


def test_dask(free: Daemon) -> None:
    """Each worker gets one of the reserved GPUs."""
    used, reserved = program(free, "Dask")
    assert used == str([str(gpu) for gpu in reserved])


def test_joblib(free: Daemon) -> None:
    """The tasks use the reserved GPUs by their numbers from 0."""
    used, reserved = program(free, "joblib")
    assert set(json.loads(used)) <= {0, 1}
    assert len(reserved) == 2
