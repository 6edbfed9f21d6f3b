"""The tables of `queue`, `violations` and `events`: as wide as the terminal, whole on a pipe."""

import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Iterator

import pytest
from support.daemon import COMMAND, Daemon, gpu, serving, until, use
from support.terminals import read_all

from canhazgpu.cli.display.terminal import width_of


@pytest.fixture(scope="module")
def busy() -> Iterator[Daemon]:
    """GPU 0 is used without a reservation by several processes with long names."""
    names = {5_000_000 + number: f"a-program-with-a-long-name-{number}" for number in (11, 12, 13)}
    processes = [use(pid, 900, "bob", name) for pid, name in names.items()]
    with serving(2) as daemon:
        daemon.place(gpu(0, *processes), gpu(1))
        until(daemon.facts)
        yield daemon


def on_terminal(host: Daemon, width: int, *words: str) -> list[str]:
    """Return the lines that a command writes to a terminal of this width."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    variables = {name: value for name, value in host.environment.items() if name != "COLUMNS"}
    subprocess.run([*COMMAND, *words], env={**variables, "TERM": "xterm"}, stdout=slave, check=True)
    os.close(slave)
    return read_all(master).decode().splitlines()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_violations_fit(busy: Daemon, width: int) -> None:
    """The id and the GPU are always there; processes are cut or left out first."""
    lines = on_terminal(busy, width, "violations")
    assert max(map(width_of, lines[:2])) <= width, lines
    assert lines[0].split()[:3] == ["VIOLATION", "USER", "GPU"]
    whole = busy.run("violations").stdout
    assert all(f"a-program-with-a-long-name-{number}" in whole for number in (11, 12, 13))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_queue_fits(busy: Daemon, width: int) -> None:
    """The id, which `cancel` needs, is always there; a pipe has the whole reason."""
    waiting = subprocess.Popen(
        [*COMMAND, "run", "--gpus", "2", "--wait", "--note", "n" * 30, "--", "true"],
        env=busy.environment,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: "n" * 30 in busy.run("queue").stdout)
        lines, whole = on_terminal(busy, width, "queue"), busy.run("queue").stdout
    finally:
        waiting.terminate()
        waiting.wait()
        until(lambda: busy.run("queue", "--json").stdout == "[]\n")
    assert max(map(width_of, lines)) <= width, lines
    assert lines[0].split()[:3] == ["POSITION", "ID", "USER"]
    assert "needs 2 of 2" in whole


def test_the_subjects_of_events_are_one_column(busy: Daemon) -> None:
    """Also where the type is as long as `reservation.extended`."""
    for words in (["reserve", "--gpu-ids", "1"], ["extend", "1", "1h"], ["release", "1"]):
        assert busy.run(*words).returncode == 0
    lines = busy.run("events", "--type", "reservation").stdout.splitlines()
    lines += busy.run("events", "--type", "gpu.changed").stdout.splitlines()
    subject = [max(line.find("  reservation/"), line.find("  gpu/")) for line in lines]
    assert len(subject) > 2
    assert len(set(subject)) == 1, lines
