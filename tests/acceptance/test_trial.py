"""The trial on simulated GPUs in docs/administrators.md: its files, its commands, and what they print."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support.daemon import until

PAGE = (Path(__file__).parents[2] / "docs" / "administrators.md").read_text()
TRIAL = PAGE.partition("## Try it without GPUs")[2].partition("\n## ")[0]
PROGRAM = str(Path(sys.executable).parent / "canhazgpu")


@pytest.fixture
def text(folder: Path) -> str:
    """The section, with a folder of the test's own in the place of its folder."""
    return TRIAL.replace("/tmp/trial", str(folder)).replace(".venv/bin/canhazgpu", PROGRAM)  # noqa: S108 - a word of the page


def after(text: str, words: str) -> str:
    """Return the indented lines that follow the line with these words."""
    block = re.match(r"[^\n]*\n\n((?:(?:    [^\n]*)?\n)+)", text.partition(words)[2])
    assert block, words
    return "\n".join(line[4:] for line in block[1].splitlines()).strip() + "\n"


def test_the_trial_works_as_written(text: str, folder: Path) -> None:
    """The trial in the document works exactly as written, and a changed scenario is seen."""
    for name in ("lab.toml", "gpus.toml"):
        (folder / name).write_text(after(text, f"`{folder}/{name}`"))
    serve, status, *shown = after(text, "any command in another").splitlines()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CANHAZGPU_")}

    def says() -> str:
        done = subprocess.run(
            shlex.split(status), env=environment, capture_output=True, text=True, check=False
        )
        return done.stdout

    with subprocess.Popen(shlex.split(serve), env=environment, stderr=subprocess.DEVNULL) as daemon:
        try:
            until(lambda: "GPU 1: IN USE" in says(), 20)
            assert says().splitlines() == [line for line in shown if line]
            scenario = folder / "gpus.toml"
            scenario.write_text("".join(scenario.read_text().splitlines(keepends=True)[:-1]))
            until(lambda: "GPU 1: AVAILABLE" in says(), 20)
        finally:
            daemon.terminate()
    assert daemon.returncode == 0
