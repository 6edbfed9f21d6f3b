"""`top` on real terminals: what is seen, keys, sizes, a service that restarts, and every way out."""

import os
import pty
import signal
import subprocess
import tempfile
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import COMMAND, Daemon, gpu, until
from support.hostile import toml
from support.programs import need
from support.screens import Screen
from support.terminals import read_all

EVIL = toml("\x1b[2J\x1b]0;owned\x07evil\u202e")


@pytest.fixture(scope="module")
def eight() -> Iterator[Daemon]:
    """Eight GPUs; a process with a hostile name uses the last one."""
    with tempfile.TemporaryDirectory(prefix="chg-", dir="/tmp") as name:
        daemon = Daemon(Path(name)).start()
        hostile = f"pid = 5012345;memory_mb = 2048;user = {EVIL};name = {EVIL}"
        daemon.place(*(gpu(index, utilization_percent=50) for index in range(7)), gpu(7, hostile))
        until(lambda: "evil" in daemon.status())
        yield daemon
        daemon.stop()


@pytest.fixture
def screen(eight: Daemon) -> Iterator[Screen]:
    """`top` on a terminal of 110 columns."""
    need("tmux")
    assert eight.run("release", "--all").returncode == 0
    shown = Screen([*COMMAND, "top", "-i", "500ms"], eight.environment, width=110, height=32)
    until(lambda: "8 GPUs" in shown.text, 20)
    yield shown
    shown.close()


def test_what_is_seen_follows_the_host(eight: Daemon, screen: Screen) -> None:
    """GPUs, then a reservation, then its end appear without a key; hostile names are spelled out."""
    until(lambda: "unreserved" in (text := screen.text) and "\\x1b[2J" in text, 20)
    until(lambda: "▄▄▄" in screen.text, 20)
    assert eight.run("reserve", "--gpu-ids", "0,1,2", "--note", "thesis").returncode == 0
    until(lambda: "Reservations: 1" in screen.text and "root  0-2   manual" in screen.text, 20)
    assert eight.run("release").returncode == 0
    until(lambda: "Reservations" not in screen.text, 20)


def test_a_booking_appears(eight: Daemon, screen: Screen) -> None:
    """A booking of the next 24 hours is below the reservations, until it is cancelled; a later one is not."""
    words = ("reserve", "--short", "--gpus", "2", "--duration", "1h", "--begin")
    later = eight.run(*words, "+48h").stdout.strip()
    name = eight.run(*words, "+3h").stdout.strip()
    until(lambda: "Bookings of the next 24 hours: 1" in screen.text and "root  2     " in screen.text, 20)
    assert eight.run("cancel", name, later).returncode == 0
    until(lambda: "Bookings" not in screen.text, 20)


def test_extending_and_releasing_ones_own(eight: Daemon, screen: Screen) -> None:
    """The keys e and r ask, do it, and say what was done; a refusal is said too."""
    assert eight.run("reserve", "--gpu-ids", "3,4", "--duration", "1h").returncode == 0
    screen.press("e", "3", "h", "Enter")
    until(lambda: "Extended GPUs 3,4." in screen.text, 20)
    screen.press("r", "6", "Enter")
    until(lambda: "GPU 6 is not reserved" in screen.text, 20)
    screen.press("r", "3", "Enter")
    until(lambda: "Released GPU 3." in screen.text, 20)
    until(lambda: "root  4     manual" in screen.text, 20)
    assert eight.status().count("IN USE by root") == 1


def test_filters_help_and_quitting(screen: Screen) -> None:
    """The keys f and s change what is shown, h explains, q gives the terminal back and ends with 0."""
    screen.press("f")
    until(lambda: "No GPU matches." in screen.text and "[mine]" in screen.text, 20)
    screen.press("f", "s")
    until(lambda: "[free, by memory]" in (text := screen.text) and "  6  free" in text, 20)
    until(lambda: "\n  7  unreserved" not in screen.text, 20)
    screen.press("h")
    until(lambda: "Press any other key to go back." in screen.text, 20)
    until(lambda: screen.is_alternate)
    screen.press("h", "q")
    until(lambda: screen.status == 0, 20)
    until(lambda: not screen.is_alternate)


def test_every_size_of_the_terminal(screen: Screen) -> None:
    """It follows the size of the terminal at once, down to 40 columns and a few lines."""
    screen.resize(40, 12)
    until(lambda: "GIB" in screen.text and "HISTORY" not in screen.text, 20)
    assert all(len(line) <= 40 for line in screen.text.splitlines())
    screen.resize(20, 3)
    screen.resize(160, 40)
    until(lambda: "MODEL" in screen.text and "q quit" in screen.text, 20)
    screen.press("C-c")
    until(lambda: screen.status == 130, 20)
    until(lambda: not screen.is_alternate)


def test_a_service_that_restarts(host: Daemon) -> None:
    """While it is gone, the last state stays and says since when; then it goes on by itself."""
    need("tmux")
    shown = Screen([*COMMAND, "top", "-i", "500ms"], host.environment)
    try:
        until(lambda: "1 free" in shown.text, 20)
        host.stop()
        until(lambda: "stale since " in (text := shown.text) and "1 free" in text, 20)
        host.place(gpu(0), gpu(1))
        host.start()
        until(lambda: "2 free" in shown.text and "stale" not in shown.text, 30)
        shown.press("q")
        until(lambda: shown.status == 0, 20)
    finally:
        shown.close()


def test_a_service_that_is_stopped(host: Daemon) -> None:
    """While it is stopped, keys work and the reason is shown; when it goes on, so does the view."""
    need("tmux")
    assert host.process
    shown = Screen([*COMMAND, "top", "-i", "500ms"], host.environment)
    try:
        until(lambda: "1 free" in shown.text, 20)
        host.process.send_signal(signal.SIGSTOP)
        until(lambda: "stale since " in shown.text and "is stopped" in shown.text, 20)
        shown.press("h")
        until(lambda: "Press any other key to go back." in shown.text, 20)
        host.process.send_signal(signal.SIGCONT)
        until(lambda: "stale" not in shown.text, 20)
        shown.press("h", "q")
        until(lambda: shown.status == 0, 20)
    finally:
        host.process.send_signal(signal.SIGCONT)
        shown.close()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=str
)
def test_every_way_out_gives_the_terminal_back(eight: Daemon, number: int, code: int) -> None:
    """After Ctrl-C and other signals the terminal has its settings, its screen and its cursor again."""
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    process = subprocess.Popen(
        [*COMMAND, "top"],
        env={**eight.environment, "TERM": "xterm"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    shown = b""
    while b"8 GPUs" not in shown:
        shown += os.read(master, 65536)
    assert termios.tcgetattr(slave) != before
    process.send_signal(number)
    while b"\x1b[?1049l" not in shown:  # Back to the screen from before.
        shown += os.read(master, 65536)
    assert process.wait(60) == code
    assert termios.tcgetattr(slave) == before
    os.close(slave)
    shown += read_all(master)
    assert any(cursor in shown for cursor in (b"\x1b[?25h", b"\x1b[?12l"))
    assert b"Traceback" not in shown


@pytest.mark.parametrize("terminal", ["dumb", "", "no-such-terminal"])
def test_a_terminal_that_cannot(eight: Daemon, terminal: str) -> None:
    """A terminal that cannot show it gets one line that names the other command, and exit code 2."""
    master, slave = pty.openpty()
    done = subprocess.run(
        [*COMMAND, "top"],
        env={**eight.environment, "TERM": terminal},
        stdin=slave,
        stdout=slave,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    os.close(slave)
    os.close(master)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: top cannot be shown on this terminal (")
    assert done.stderr.endswith("use `canhazgpu status --long`\n")
    assert done.stderr.count("\n") == 1


def test_without_a_terminal_or_a_service(eight: Daemon, folder: Path) -> None:
    """On a pipe it is one line and exit code 2; without a service, that of every command."""
    done = eight.run("top")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: top needs a terminal: ")
    assert eight.run("top", "-i", "1ms").stderr.startswith("Error: --interval: '1ms' is too short")
    need("tmux")
    shown = Screen([*COMMAND, "top"], Daemon(folder).environment)
    try:
        until(lambda: shown.status == 3, 20)
        until(lambda: "Error: the service does not answer" in shown.text)
        until(lambda: not shown.is_alternate)
    finally:
        shown.close()
