"""The examples in the help of the commands for users are run as they stand, in the shell that they name."""

import json
import os
import shlex
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import COMMAND, PATIENCE, Daemon, gpu, until
from support.fleet import fleet_server
from support.programs import need, words_of

from canhazgpu.cli.command_groups import SECTIONS

HOLDS = {"env", "check", "extend", "release", "disown"}  # They are about GPUs that one has.
ENDLESS = ("--follow", "--watch")
LIVE = "canhazgpu top"  # It needs a terminal.
ELSEWHERE = {"cancel", "bookings"}
READY = 10  # Eight GPUs, and two MIG instances of a ninth.
INSTANCE = '[[gpus.mig]]\nnumber = {number}\nprofile = "1g.10gb"\nuuid = "MIG-{number}"\n'
PROGRAMS = ("python", "torchrun", "job.sh", "train.py")


@pytest.fixture(scope="module")
def eight() -> Iterator[Daemon]:
    """Eight idle GPUs of a host in a fleet, and a folder with the programs of the examples."""
    with tempfile.TemporaryDirectory(prefix="chg-", dir="/tmp") as name, fleet_server(Path(name)) as server:
        settings = f'[fleet]\nurl = "redis://127.0.0.1:{server.port}"\ninterval = "1s"\n'
        daemon = Daemon(Path(name), settings)
        instances = "".join(INSTANCE.format(number=number) for number in (0, 1))
        whole = (gpu(index, name="NVIDIA H100") for index in range(8))
        daemon.place(*whole, gpu(8, name="NVIDIA H100") + instances)
        daemon.start()
        programs = daemon.folder / "bin"
        programs.mkdir()
        for program in PROGRAMS:
            (programs / program).write_text("#!/bin/sh\nexit 0\n")
        (programs / "canhazgpu").write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
        for path in programs.iterdir():
            path.chmod(0o755)
        until(lambda: daemon.run("status", "--all").stdout.count("AVAILABLE") == READY)
        yield daemon
        daemon.stop()


def examples(host: Daemon, name: str) -> list[str]:
    """Return the examples in the help of a command."""
    text = host.run(name, "--help").stdout.partition("Examples:\n")[2].partition("\n\n")[0]
    return [line.strip() for line in text.splitlines() if line.strip()]


def typed(host: Daemon, line: str) -> "subprocess.CompletedProcess[str]":
    """Type a line into the shell that its comment names."""
    shell = next((one for one in ("fish", "csh") if line.endswith(f"# {one}")), "bash")
    need(shell)
    code = line.partition("  # ")[0]
    if code.startswith(LIVE):
        need("script")
        code = f"TERM=xterm timeout 2 script -qec {shlex.quote(code)} /dev/null; ended=$?; [ $ended = 124 ]"
    elif any(word in code for word in ENDLESS):
        code = f"timeout 2 {code}; ended=$?; [ $ended = 124 ] || [ $ended = 0 ]"
    flags = {"bash": [], "fish": ["--no-config"], "csh": ["-f"]}[shell]
    path = f"{host.folder}/bin:{os.environ['PATH']}"
    return subprocess.run(
        words_of(code, [shell, *flags]),
        env={**host.environment, "PATH": path, "HOME": str(host.folder)},
        cwd=host.folder / "bin",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


def at_rest(host: Daemon, *held: str) -> None:
    """Give everything back, and reserve these GPUs."""
    assert host.run("release", "--all").returncode == 0
    for row in json.loads(host.run("bookings", "--json").stdout):
        assert host.run("cancel", row["id"]).returncode == 0
    until(lambda: host.status().count(": AVAILABLE") == READY)
    if held:
        assert host.run("reserve", "--gpu-ids", ",".join(held)).returncode == 0


@pytest.mark.parametrize(
    "name", sorted({*SECTIONS["Use GPUs"], *SECTIONS["View status"]} - {"cancel", "bookings"})
)
def test_the_examples_of_a_command_work(eight: Daemon, name: str) -> None:
    """Each ends with 0 where its GPUs are free, or held where it is about what one has.

    Those of `cancel` need somebody who waits: tests/acceptance/test_cancel.py. Those of `bookings` need a
    booking: tests/acceptance/test_bookings.py.
    """
    found = examples(eight, name)
    assert found
    for line in found:
        at_rest(eight, *(("1", "3") if name in HOLDS else ()))
        done = typed(eight, line)
        assert done.returncode == 0, (line, done)


@pytest.mark.parametrize("name", ["reserve", "env"])
def test_the_examples_do_not_hide_a_refusal(eight: Daemon, name: str) -> None:
    """Each fails where nothing can be had, so that nothing after it runs on GPUs of others."""
    for line in examples(eight, name):
        at_rest(eight, *(map(str, range(9)) if name == "reserve" else ()))
        if "--wait" in line or "--begin" in line:
            continue
        code, comment = (line.partition("  # ")[part] for part in (0, 2))
        done = typed(eight, f"{code} && echo went on  # {comment}" if comment else f"{code} && echo went on")
        assert (done.returncode != 0, done.stdout) == (True, ""), (line, done)
