"""docs/integrations/editors.md: the commands of the examples, executed as the editors would."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest
from support.daemon import COMMAND, PATIENCE, Daemon, until

PAGE = (Path(__file__).parents[2] / "docs" / "integrations" / "editors.md").read_text()
TASKS, LAUNCH, CONTAINER = (json.loads(one) for one in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL))
(XML,) = re.findall(r"```xml\n(.*?)```", PAGE, re.DOTALL)
PROBE = "import os; print('sees', os.environ['CUDA_VISIBLE_DEVICES'])\n"


@pytest.fixture
def project(lasting_host: Daemon) -> Iterator[Path]:
    """A folder with a program, where GPU 2 is the only one that is free."""
    until(lambda: lasting_host.status().count("AVAILABLE") == 4)
    assert lasting_host.run("admin", "drain", "0,1,3").returncode == 0
    path = lasting_host.folder / "project"
    path.mkdir(exist_ok=True)
    (path / "train.py").write_text(PROBE)
    (lasting_host.folder / "bin").mkdir(exist_ok=True)
    program = lasting_host.folder / "bin" / "canhazgpu"
    program.write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    program.chmod(0o755)
    yield path
    lasting_host.run("admin", "release", "--all")
    lasting_host.run("admin", "undrain", "0-3")


def execute(host: Daemon, project: Path, *words: str, **more: str) -> "subprocess.CompletedProcess[str]":
    """Run a command in the project, with canhazgpu in the PATH."""
    path = f"{host.folder}/bin:{os.environ['PATH']}"
    return subprocess.run(
        words,
        cwd=project,
        env={**host.environment, "PATH": path, **more},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


def task(label: str, project: Path) -> list[str]:
    """Return the command of a task, with the variables of VS Code replaced."""
    (found,) = [one for one in TASKS["tasks"] if one["label"] == label]
    assert found["type"] == "process"  # So that no shell reads the words.
    return [found["command"], *(word.replace("${file}", f"{project}/train.py") for word in found["args"])]


def test_the_page_begins_with_the_lines_that_make_it_work(lasting_host: Daemon, project: Path) -> None:
    """The program reserves, runs, and releases."""
    found = re.match(r"# .+\n\n((?:    .+\n){3})\n", PAGE)
    assert found
    lines = re.sub("^    ", "", found[1], flags=re.MULTILINE)
    (project / "own.py").write_text(f"def train():\n    {PROBE}{lines}")
    python = COMMAND[0]
    done = execute(lasting_host, project, python, "own.py")
    assert (done.stdout, done.stderr) == ("sees 2\n", "")
    until(lambda: "AVAILABLE" in lasting_host.status())


def test_the_tasks_of_vs_code(lasting_host: Daemon, project: Path) -> None:
    """One runs the open file on a free GPU, the other lists what is held."""
    done = execute(lasting_host, project, *task("Run on a reserved GPU", project))
    assert (done.returncode, done.stdout, done.stderr) == (0, "sees 2\n", "")
    lasting_host.run("reserve", "--gpu-ids", "2")
    done = execute(lasting_host, project, *task("Check my GPUs", project))
    assert re.fullmatch(r"GPU 2: IN USE by .*\n", done.stdout)


def test_the_debugger_attaches_to_the_task(project: Path) -> None:
    """The configuration starts the task that waits, and has its address."""
    (one,) = LAUNCH["configurations"]
    words = task(one["preLaunchTask"], project)
    address = "{host}:{port}".format(**one["connect"])
    assert words[words.index("--listen") + 1] == address
    assert words[:5] == ["canhazgpu", "run", "--gpus", "1", "--"]


def test_a_refusal_is_a_problem_of_the_task(lasting_host: Daemon, project: Path) -> None:
    """VS Code finds the error line by the pattern of the task, so that it does not wait for the debugger."""
    lasting_host.run("admin", "drain", "2")
    (matcher,) = [one["problemMatcher"] for one in TASKS["tasks"] if one.get("isBackground")]
    done = execute(lasting_host, project, *task("Run on a reserved GPU", project))
    assert done.returncode == 125
    assert re.match(matcher["pattern"]["regexp"], done.stderr)
    assert re.search(matcher["background"]["endsPattern"], done.stderr)


def test_a_dev_container_gets_the_reserved_gpus(lasting_host: Daemon, project: Path) -> None:
    """With the variables of the shell on the page; without them, the first command fails."""
    first: list[str] = CONTAINER["initializeCommand"]
    assert execute(lasting_host, project, *first).returncode == 4
    (line,) = re.findall(r"^    (code=.+ && )code \.$", PAGE, re.MULTILINE)
    code = f"{line} {' '.join(first)} && printenv CUDA_VISIBLE_DEVICES CANHAZGPU_RESERVATION"
    done = execute(lasting_host, project, "bash", "-c", code)
    said, gpus, reservation = done.stdout.splitlines()
    assert said.startswith("GPU 2 is reserved by you for 7h 59m")
    words = [
        word.replace("${localEnv:CUDA_VISIBLE_DEVICES}", gpus).replace(
            "${localEnv:CANHAZGPU_RESERVATION}", reservation
        )
        for word in CONTAINER["runArgs"]
    ]
    assert words == ["--gpus", '"device=2"', "--env", f"CANHAZGPU_RESERVATION={reservation}"]


def test_the_run_configuration_of_pycharm(lasting_host: Daemon, project: Path) -> None:
    """Its script runs in the folder of the project."""
    options: dict[str, Any] = {
        one.attrib["name"]: one.attrib["value"]
        for one in fromstring(XML).iter("option")  # noqa: S314
    }
    assert options["SCRIPT_WORKING_DIRECTORY"] == "$PROJECT_DIR$"
    done = execute(lasting_host, project, "sh", "-c", options["SCRIPT_TEXT"])
    assert (done.returncode, done.stdout, done.stderr) == (0, "sees 2\n", "")
