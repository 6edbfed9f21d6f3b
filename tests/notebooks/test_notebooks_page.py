"""docs/integrations/notebooks.md: every line of the magic works as it is written."""

import json
import os
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.daemon import PATIENCE, Daemon, until
from support.notebook import ROOT, Notebook

from canhazgpu.client.jupyter.magic import PRINTING

pytestmark = [pytest.mark.notebook, pytest.mark.timeout(300)]  # A kernel is slow to start.
PAGE = (ROOT / "docs" / "integrations" / "notebooks.md").read_text()
ROWS = re.findall(r"^\| `(%canhazgpu.*?)` \|", PAGE, re.MULTILINE)


@pytest.fixture
def free(lasting_host: Daemon) -> Iterator[Daemon]:
    """A host with four GPUs, all free, and a `torch` that can be imported."""
    (lasting_host.folder / "torch.py").touch()
    until(lambda: lasting_host.status().count("AVAILABLE") == 4)
    yield lasting_host
    lasting_host.run("admin", "release", "--all")


def test_the_page_begins_with_the_lines_that_make_it_work(free: Daemon) -> None:
    """They reserve, and nothing warns."""
    found = re.match(r"# .+\n\n((?:    .+\n){3})\n", PAGE)
    assert found
    with Notebook({**free.environment, "PYTHONPATH": str(free.folder)}) as notebook:
        shown = [notebook.cell(line.strip()) for line in found[1].splitlines()]
    assert [one.error for one in shown] == ["", "", ""]
    assert shown[1].text.endswith(" for 4h 0m 0s, or until this kernel ends\n")
    assert shown[2].text == ""


def test_every_line_of_the_table_works(free: Daemon) -> None:
    """One after the other, in one kernel."""
    with Notebook(free.environment) as notebook:
        free.run("reserve", "--gpu-ids", "0")
        failed = {line: shown for line in ROWS if (shown := notebook.cell(line)).error and line != ROWS[0]}
        assert failed == {}
        for name in PRINTING:
            assert f"`{name}`" in PAGE or f"%canhazgpu {name}" in PAGE
            assert "unknown words" not in notebook.cell(f"%canhazgpu {name}").error


def test_a_reload_keeps_what_the_kernel_holds(free: Daemon) -> None:
    """`%reload_ext` releases nothing, and the magic still knows it."""
    with Notebook(free.environment) as notebook:
        notebook.cell("%canhazgpu reserve --gpu-ids 1")
        assert notebook.cell("%reload_ext canhazgpu.client.notebook").error == ""
        assert notebook.cell("%canhazgpu release").text == "Released GPU 1\n"


def test_a_cell_can_wait_and_be_interrupted(free: Daemon) -> None:
    """An interrupt takes the request out of the queue. A cell that goes on waiting shows its place."""

    def waiting() -> int:
        return len(json.loads(free.run("queue", "--json").stdout))

    free.run("reserve", "--gpus", "4")
    with ThreadPoolExecutor(1) as executor, Notebook(free.environment) as notebook:
        cell = executor.submit(notebook.cell, "%canhazgpu reserve 1 4h --wait 30m")
        until(lambda: waiting() == 1)
        os.kill(notebook.pid, signal.SIGINT)
        assert cell.result(PATIENCE).error.startswith("KeyboardInterrupt")
        until(lambda: waiting() == 0)
        cell = executor.submit(notebook.cell, "%canhazgpu reserve --gpu-ids 2 --wait 30m")
        until(lambda: waiting() == 1)
        free.run("release")
        shown = cell.result(PATIENCE)
    assert shown.error == ""
    assert "position 1" in shown.text.splitlines()[0]
    assert shown.text.splitlines()[-1] == "Reserved GPU 2 for 8h 0m 0s, or until this kernel ends"
