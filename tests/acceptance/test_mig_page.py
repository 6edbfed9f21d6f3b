"""The chapter about MIG instances in docs/users.md: its commands, executed on a host with a divided GPU."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import COMMAND, PATIENCE, Daemon, gpu, until

PAGE = (Path(__file__).parents[2] / "docs" / "users.md").read_text()
CHAPTER = re.search(r"^## MIG instances\n(.*?)^## ", PAGE, re.MULTILINE | re.DOTALL)
PROFILES = ("1g.10gb", "1g.10gb", "3g.40gb")
INSTANCE = '[[gpus.mig]]\nnumber = {}\nprofile = "{}"\nuuid = "MIG-{}"\n'


@pytest.fixture
def host(folder: Path) -> Iterator[Daemon]:
    """A host whose GPU 0 is divided into three instances, and a program."""
    (folder / "small.py").write_text("import os; print(os.environ['CUDA_VISIBLE_DEVICES'])\n")
    (folder / "canhazgpu").write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    (folder / "canhazgpu").chmod(0o755)
    made = Daemon(folder)
    instances = [INSTANCE.format(number, profile, number) for number, profile in enumerate(PROFILES)]
    made.place(gpu(0), *instances)
    yield made.start()
    made.stop()


def test_the_commands_of_the_chapter(host: Daemon) -> None:
    """In their order they do what the chapter says."""
    assert CHAPTER
    commands = re.findall(r"^    \$ (.*)", CHAPTER[1], re.MULTILINE)
    printed = {}
    for command in commands:
        if command.endswith("--wait 30m"):
            host.run("release", "--all")
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=host.folder,
            env={**host.environment, "PATH": f"{host.folder}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE,
        )
        printed[command] = done.stdout + done.stderr
        if command.startswith("canhazgpu run"):
            until(lambda: host.status().count("AVAILABLE") == len(PROFILES))
    said = list(printed.values())
    assert [line.partition(" (")[0] for line in said[0].splitlines()] == [
        f"GPU 0:{number}: AVAILABLE" for number in range(3)
    ]
    assert re.fullmatch("MIG-[01]\n", said[1])
    assert "Reserved 2 GPU(s): [0:0, 0:1] for 4h" in said[2]
    assert "Reserved 1 GPU(s): [0:2] for 8h" in said[3]
    assert said[4] == "Released 1 GPU(s): [0:2]\n"
    assert "Reserved 1 GPU(s): [0] for 8h" in said[5]
    assert "export CUDA_VISIBLE_DEVICES=MIG-0,MIG-1,MIG-2" in said[5]
