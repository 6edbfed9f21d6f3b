"""docs/users.md: its script, its Python, its exit codes and its variables are as the page says."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import COMMAND, Daemon, gpu, until
from support.programs import need

from canhazgpu.cli.exit_codes import MEANINGS, RUN_MEANINGS

PAGE = (Path(__file__).parents[2] / "docs" / "users.md").read_text()
CODES = {
    "run -- true": 0,
    "check": 4,
    "run -- sh -c 'exit 7'": 7,
    "reserve --gpus 3 --nonblock; canhazgpu reserve --gpus 2": 1,
    "reserve --gpus 0": 2,
    "run --gpus 0 -- true": 125,
    "run --gpus 9 -- true": 125,
    "run -- sh -c 'kill -9 $$'": 137,
    "--config away.toml status": 2,
    "run -- /etc/passwd": 126,
    "run -- no-such-command": 127,
}


def block(language: str) -> str:
    """Return the only block of one language in the page."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


@pytest.fixture(scope="module")
def running() -> Iterator[Daemon]:
    """Four idle GPUs, and a folder in which `canhazgpu` is found."""
    with tempfile.TemporaryDirectory(prefix="chg-", dir="/tmp") as name:
        daemon = Daemon(Path(name)).start()
        daemon.place(*(gpu(index) for index in range(4)))
        programs = daemon.folder / "bin"
        programs.mkdir()
        (programs / "canhazgpu").write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
        (programs / "canhazgpu").chmod(0o755)
        yield daemon
        daemon.stop()


@pytest.fixture
def idle(running: Daemon) -> Daemon:
    """The same, with nothing reserved and nothing released that a scan has not looked at."""
    assert running.run("release").returncode == 0
    until(lambda: running.status().count("AVAILABLE") == 4)
    return running


def environment(host: Daemon) -> dict[str, str]:
    """Return an environment with the command on its path."""
    return {**host.environment, "PATH": f"{host.folder}/bin:{os.environ['PATH']}"}


def bash(host: Daemon, script: str) -> "subprocess.CompletedProcess[str]":
    """Run a script in the host's folder."""
    return subprocess.run(
        ["bash", "-c", script],
        env=environment(host),
        cwd=host.folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_script(idle: Daemon) -> None:
    """Both programs of the script use the reserved GPUs, which are free at its end."""
    for name in ("prepare", "train"):
        program = idle.folder / f"{name}.sh"
        program.write_text(f"#!/bin/sh\necho {name} $CUDA_VISIBLE_DEVICES $CUDA_DEVICE_ORDER\n")
        program.chmod(0o755)
    done = bash(idle, block("bash"))
    assert (done.returncode, done.stderr) == (0, "")
    prepared, trained, released = done.stdout.splitlines()
    gpus = prepared.split()[1]
    assert prepared == f"prepare {gpus} PCI_BUS_ID"
    assert trained == f"train {gpus} PCI_BUS_ID"
    assert released == f"Released 2 GPU(s): [{gpus.replace(',', ', ')}]"
    until(lambda: idle.status().count("AVAILABLE") == 4)


def test_the_script_without_gpus(idle: Daemon) -> None:
    """Without enough GPUs, the script ends with the exit code of `reserve` and runs nothing."""
    done = bash(idle, block("bash").replace("--gpus 2", "--gpus 9"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "9 GPUs were requested" in done.stderr


def test_the_python(idle: Daemon) -> None:
    """The Python program prints its GPUs, or that there is no service."""
    run = [sys.executable, "-c", block("python")]
    done = subprocess.run(run, env=environment(idle), capture_output=True, text=True, check=True, timeout=60)
    assert re.fullmatch(r"\[(\d), (\d)\] \1,\2\n", done.stdout), done.stdout
    away = {**environment(idle), "CANHAZGPU_SOCKET": str(idle.folder / "away")}
    done = subprocess.run(run, env=away, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.startswith("no service: ")


def test_the_variables(idle: Daemon) -> None:
    """`run` adds exactly the variables in the table to the environment."""
    named = set(re.findall(r"^\| `([A-Z_]+)` \|", PAGE, re.MULTILINE))
    done = idle.run("run", "--", "env", "-0")
    shown = dict(entry.partition("=")[::2] for entry in done.stdout.split("\0") if entry)
    assert {name for name in shown if idle.environment.get(name) != shown[name]} == named


def test_the_exit_codes(idle: Daemon) -> None:
    """The exit codes are those in the table; `run` returns that of its command."""
    for words, code in CODES.items():
        until(lambda: "(run" not in idle.status())  # The run before has been released.
        assert bash(idle, f"canhazgpu {words}; exit $?").returncode == code, words
        assert code in (7, 137) or re.search(rf"^\| {code} \|", PAGE, re.MULTILINE), code


def test_the_page_and_the_help_have_the_same_exit_codes(idle: Daemon) -> None:
    """There is one table of them, in cli/exit_codes.py."""
    rows = re.findall(r"^\| (\d+) \| (.+?) \|$", PAGE.partition("## Exit codes")[2], re.MULTILINE)
    table = [*MEANINGS.items(), *RUN_MEANINGS.items()]
    assert rows == [(str(code), meaning) for code, meaning in table]
    for words, meanings in ((("--help",), MEANINGS), (("run", "--help"), RUN_MEANINGS)):
        shown = idle.run(*words).stdout
        assert all(f"  {code:<5}{meaning}\n" in shown for code, meaning in meanings.items())


def test_the_available_gpus(idle: Daemon) -> None:
    """The line with jq prints the available GPUs."""
    (line,) = re.findall(r"^    (canhazgpu status --json \| jq .*)$", PAGE, re.MULTILINE)
    need("jq")
    assert idle.run("reserve", "--gpu-ids", "2").returncode == 0
    assert bash(idle, line).stdout.split() == ["0", "1", "3"]


def test_the_ways_to_write_gpus_and_times(idle: Daemon) -> None:
    """The lines work as they stand, one after the other."""
    section = PAGE.partition("## How to write GPUs and times")[2].partition("\n## ")[0]
    lines = re.findall(r"^    (canhazgpu .+)$", section, re.MULTILINE)
    assert len(lines) == 3
    done = bash(idle, " && ".join(lines))
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "Released 2 GPU(s): [0, 1]"), done
    assert "Extended 2 GPU(s): [0, 1], expires in 2d 1h" in done.stdout


def test_what_is_said_to_a_missing_separator(idle: Daemon) -> None:
    """The mistake on the page gets the line on the page."""
    line, answer = re.findall(r"^    \$ (canhazgpu run .*)\n    (Error: usage: .*)$", PAGE, re.MULTILINE)[0]
    done = bash(idle, line)
    assert (done.returncode, done.stdout, done.stderr) == (125, "", f"{answer}\n")


def test_the_lines_that_show_something(idle: Daemon) -> None:
    """Each line with `status`, `who`, `history`, `queue` or `events` alone works as it stands."""
    lines = re.findall(r"^    (canhazgpu (?:status|who|history|queue|events)\b[^|\n]*)$", PAGE, re.MULTILINE)
    assert len(lines) >= 9
    for line in lines:
        done = bash(idle, line)
        assert (done.returncode, done.stdout != "" or "No GPU of this host" in done.stderr) == (0, True), line
