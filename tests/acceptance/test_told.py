"""The main job: a real user's process on a GPU, and the line on their own terminals in time."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest
from support.people import Pane, Person, Terminal

from canhazgpu.cli.demo_mail import MailSink

SCAN_INTERVAL = 0.5
CONFIRM = 1.0
GROUP_WAIT = 1.0
IN_TIME = SCAN_INTERVAL + CONFIRM + GROUP_WAIT + 0.5
CONFIG = """\
host = "told"
socket = "{folder}/s"
state_dir = "{folder}/state"
[gpus]
provider = "simulated"
scenario = "{folder}/gpus.toml"
scan_interval = "{scan}s"
[violations]
confirm = "{confirm}s"
[notices]
group_wait = "{wait}s"
[notify.log]
path = "{folder}/violations.log"
[notify.email]
enabled = true
host = "127.0.0.1"
port = {port}
user_address = "{{user}}@example.com"
admins = ["admins@example.com"]
"""


class Host:
    """A service on two simulated GPUs, whose processes are real."""

    def __init__(self, folder: Path, port: int) -> None:
        """Start it; return when it answers."""
        self.folder = folder
        self.environment = {**os.environ, "CANHAZGPU_CONFIG": str(folder / "config.toml")}
        (folder / "config.toml").write_text(
            CONFIG.format(folder=folder, scan=SCAN_INTERVAL, confirm=CONFIRM, wait=GROUP_WAIT, port=port)
        )
        self.place([])
        self.daemon = subprocess.Popen(
            [sys.executable, "-m", "canhazgpu.cli.main", "serve"],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stderr=(folder / "output.log").open("wb"),
        )
        until(lambda: "GPU 1: AVAILABLE" in self.status(), 20)

    def place(self, pids: list[int]) -> None:
        """Put the processes on GPU 0."""
        text = "[[gpus]]\nindex = 0\nmemory_total_mb = 81559\n"
        text += "".join(f"[[gpus.processes]]\npid = {pid}\nmemory_mb = 1024\n" for pid in pids)
        (self.folder / "new").write_text(text + "[[gpus]]\nindex = 1\nmemory_total_mb = 81559\n")
        (self.folder / "new").rename(self.folder / "gpus.toml")

    def status(self) -> str:
        """Return what `canhazgpu status` prints."""
        return subprocess.run(
            [sys.executable, "-m", "canhazgpu.cli.main", "status"],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        ).stdout


def until(condition: Callable[[], object], seconds: float) -> None:
    """Wait for the condition, with a bound."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.02)


@pytest.fixture
def mails(tmp_path: Path) -> Iterator[MailSink]:
    """A mail server."""
    (tmp_path / "mail").mkdir()
    with MailSink(tmp_path / "mail") as sink:
        Thread(target=sink.serve_forever, daemon=True).start()
        yield sink
        sink.shutdown()


@pytest.fixture
def host(tmp_path: Path, mails: MailSink) -> Iterator[Host]:
    """The service."""
    host = Host(tmp_path, mails.server_address[1])
    yield host
    host.daemon.terminate()
    assert host.daemon.wait(15) == 0


def test_the_offender_is_told_in_time_and_nobody_else(
    host: Host, mails: MailSink, people: list[Person]
) -> None:
    """The line is on the offender's pty and tmux pane in time; the other user's terminal stays empty."""
    if not shutil.which("tmux"):
        pytest.skip("tmux is not installed")
    bob, alice = people
    with contextlib.ExitStack() as closing:
        terminal = Terminal(bob)
        closing.callback(terminal.close)
        pane = Pane(bob)
        closing.callback(pane.close)
        other = Terminal(alice)
        closing.callback(other.close)
        began = time.monotonic()
        host.place([terminal.leader.pid])
        until(lambda: terminal.first_seen("GPU 0"), IN_TIME + 5)
        took = (terminal.first_seen("GPU 0") or 0) - began
        until(lambda: "GPU 0" in pane.text, 1)
        until(lambda: list(mails.folder.glob("*.eml")), 5)
        line = (host.folder / "violations.log").read_text().splitlines()[0]
        host.place([])
        until(lambda: "resolved" in terminal.text.lower(), 10)
        shown_to_other = other.text
    assert took <= IN_TIME
    assert took >= CONFIRM, "told before it could be sure"
    assert shown_to_other == ""
    assert bob.name in terminal.text
    assert str(terminal.leader.pid) in terminal.text
    fact = json.loads(line)
    assert (fact["type"], fact["user"], fact["evidence"]) == (
        "canhazgpu.violation.opened",
        bob.name,
        "uid",
    )


def test_a_user_who_shuts_terminals_is_left_alone(host: Host, people: list[Person]) -> None:
    """With `mesg n` on the terminal nothing is written to it, though the daemon is root."""
    bob, _ = people
    terminal = Terminal(bob, mode=0o600)
    try:
        host.place([terminal.leader.pid])
        until(lambda: "refused" in _deliveries(host), IN_TIME + 5)
        assert terminal.text == ""
    finally:
        terminal.close()


def _deliveries(host: Host) -> str:
    return subprocess.run(
        [sys.executable, "-m", "canhazgpu.cli.main", "deliveries"],
        env=host.environment,
        capture_output=True,
        text=True,
        check=False,
    ).stdout
