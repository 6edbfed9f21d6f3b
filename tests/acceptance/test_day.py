"""The commands in the README work as shown."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from support.daemon import COMMAND, PATIENCE, Daemon, gpu, until

README = (Path(__file__).parents[2] / "README.md").read_text()
DAY = README.partition("## Everyday use")[2].partition("## ")[0]
COMMANDS = re.findall(r"^    (canhazgpu .*)$", DAY, re.MULTILINE)
PROGRAM = DAY.partition("From Python:")[2]
SAID = {
    "status": "GPU 3: AVAILABLE",
    "run --gpus 2": "trained on 0,1",
    "reserve --gpus 1": "Reserved 1 GPU(s): [2] for 4h 0m 0s",
    "reserve --gpu-ids 3": "3",
    "extend": "Extended 1 GPU(s): [3], expires in 2h 2",
    "release 3": "Released 1 GPU(s): [3]",
    "who": "root  2    ",
    "queue": "The queue is empty.",
    "run --gpus 4": "evaluated",
    "release": "Released 1 GPU(s): [2]",
    "history": "command ended",
    "violations": "No violations in the last 1d.",
}


@pytest.fixture
def work(host: Daemon) -> Path:
    """Four idle GPUs, and the programs in the README."""
    host.place(*(gpu(index, memory_used_mb=45) for index in range(4)))
    until(lambda: "GPU 3: AVAILABLE" in host.status())
    (host.folder / "train.py").write_text(
        "import os\nprint('trained on', os.environ['CUDA_VISIBLE_DEVICES'])\n"
    )
    evaluate = host.folder / "evaluate.sh"
    evaluate.write_text("#!/bin/sh\necho evaluated\n")
    evaluate.chmod(0o755)
    return host.folder


def test_the_day(host: Daemon, work: Path) -> None:
    """The twelve commands work one after the other; the waiting one is served when GPUs are released."""
    assert len(COMMANDS) == len(SAID) == 12
    for line, (begin, said) in zip(COMMANDS, SAID.items(), strict=True):
        words = shlex.split(line)[1:]
        assert line.startswith(f"canhazgpu {begin}")
        process = subprocess.Popen(
            [*COMMAND, *words],
            env=host.environment,
            cwd=work,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if "--wait" in words:
            until(lambda: "1 " in host.run("queue").stdout)
            assert host.run("release").returncode == 0
            host.run("reserve", "--gpu-ids", "2", "--wait", "100s")
        out, error = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, (line, error)
        assert said in out + error, (line, out, error)


def test_the_program(host: Daemon, work: Path) -> None:
    """The Python lines run as they are."""
    lines = [line[4:] for line in PROGRAM.splitlines() if line.startswith("    ") or not line]
    done = subprocess.run(
        [COMMAND[0], "-c", "\n".join(lines)],
        env=host.environment,
        cwd=work,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[0, 1]\n", "")
