"""docs/integrations/amd.md and a chapter of docs/users.md: their examples, executed on a mixed host."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import COMMAND, PATIENCE
from support.vendors import mixed_host
from support.waiters import QueueHost

from canhazgpu.service.providers import amd_errors

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "integrations" / "amd.md").read_text()
CHAPTER = re.search(
    r"^## NVIDIA and AMD\n(.*?)^## ", (DOCS / "users.md").read_text(), re.MULTILINE | re.DOTALL
)


@pytest.fixture
def mixed(folder: Path) -> Iterator[QueueHost]:
    """A host with NVIDIA's GPUs 0 and 1 and AMD's 2 and 3, and a program."""
    (folder / "train.py").write_text("import os; print(os.environ['CUDA_VISIBLE_DEVICES'])\n")
    (folder / "canhazgpu").write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    (folder / "canhazgpu").chmod(0o755)
    with mixed_host(folder) as host:
        yield host


def examples(text: str) -> list[tuple[str, str]]:
    """Return the commands of the examples, and what they print."""
    (block,) = re.findall(r"((?:^    .*\n)*^    \$ .*\n(?:^    .*\n)*)", text, re.MULTILINE)
    plain = re.sub("^    ", "", block, flags=re.MULTILINE)
    return re.findall(r"^\$ (.*)\n((?:^[^$].*\n)*)", plain, re.MULTILINE)


def execute(host: QueueHost, command: str) -> str:
    """Return everything that a command prints."""
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=host.folder,
        env={**host.environment, "PATH": f"{host.folder}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    return done.stdout


def test_the_examples_print_what_the_page_says(mixed: QueueHost) -> None:
    """Each example of the page prints what is below it."""
    found = examples(PAGE)
    assert len(found) == 2
    for command, printed in found:
        assert execute(mixed, command) == printed


def test_the_chapter_for_users(mixed: QueueHost) -> None:
    """The commands of the chapter reserve AMD's GPU and run on both of NVIDIA's."""
    assert CHAPTER
    reserve, run = (command for command, _ in examples(CHAPTER[1]))
    assert "export ROCR_VISIBLE_DEVICES=GPU-" in execute(mixed, f"{reserve} --shell bash")
    assert execute(mixed, run) == "0,1\n"


@pytest.mark.parametrize("text", ["No module named", "libamd_smi.so", "undefined symbol"])
def test_the_messages_are_those_of_the_table(text: str) -> None:
    """The page explains what the service says if the package or the library is missing or wrong."""
    assert f"| `{amd_errors.import_error(text)[0]}` |" in PAGE


def test_the_errors_are_those_of_amd_smi() -> None:
    """The page explains the errors that people meet first, in the words of the library."""
    for name in ("DRIVER_NOT_LOADED", "INIT_ERROR", "NO_PERM", "NOT_FOUND", "IO"):
        assert f"`{amd_errors.sentence(name)}`" in PAGE
