"""The main job: a real user's process on a GPU, and the line on their own terminals in time."""

import contextlib
import shutil
import time
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from threading import Thread

import pytest
from support.daemon import Daemon, gpu, until, use
from support.eventually import slowness
from support.hostile import MAIL
from support.people import Pane, Person, Terminal

from canhazgpu.cli.demo.mail_sink import MailSink

SCAN_INTERVAL = 0.5
CONFIRM = 1.0
GROUP_WAIT = 1.0
IN_TIME = SCAN_INTERVAL + CONFIRM + GROUP_WAIT + 0.5
PAUSE = 3.0  # A process of a busy machine may have to wait for so long.


def place(host: Daemon, *pids: int) -> None:
    """Put these processes on GPU 0."""
    host.place(gpu(0, *(use(pid, 1024) for pid in pids)), gpu(1))


def mails_to(mails: MailSink, user: str) -> list[Message]:
    """Return the mails to one address, in the order they came."""
    found = [message_from_bytes(one.read_bytes()) for one in sorted(mails.folder.glob("*.eml"))]
    return [mail for mail in found if mail["To"].startswith(f"{user}@")]


@pytest.fixture
def mails(folder: Path) -> Iterator[MailSink]:
    """A mail server."""
    (folder / "mail").mkdir()
    with MailSink(folder / "mail") as sink:
        Thread(target=sink.serve_forever, daemon=True).start()
        yield sink
        sink.shutdown()


@pytest.fixture
def told(folder: Path, mails: MailSink) -> Iterator[Daemon]:
    """A service that writes to terminals and sends mail."""
    timing = {"scan": f"{SCAN_INTERVAL}s", "confirm": f"{CONFIRM}s", "group_wait": f"{GROUP_WAIT}s"}
    daemon = Daemon(folder, MAIL.format(port=mails.server_address[1]), **timing)
    place(daemon)
    yield daemon.start()
    assert daemon.stop() == 0


def test_the_offender_is_told_in_time_and_nobody_else(
    told: Daemon, mails: MailSink, people: list[Person]
) -> None:
    """The offender's pty and tmux pane show the line in time; another user's terminal stays empty."""
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
        place(told, terminal.leader.pid)
        until(lambda: terminal.first_seen("GPU 0"), IN_TIME + 5)
        took = (terminal.first_seen("GPU 0") or 0) - began
        until(lambda: "GPU 0" in pane.text)
        until(lambda: list(mails.folder.glob("*.eml")))
        fact = until(told.facts)[0]
        place(told)
        until(lambda: "resolved" in terminal.text.lower(), 10)
        opened, resolved = until(lambda: len(found := mails_to(mails, bob.name)) == 2 and found)
        until(lambda: len(mails_to(mails, "admins")) == 2)
        shown_to_other = other.text
    assert resolved["In-Reply-To"] == opened["Message-ID"]
    assert took <= IN_TIME * slowness() + PAUSE
    assert took >= CONFIRM, "told before it could be sure"
    assert shown_to_other == ""
    assert bob.name in terminal.text
    assert str(terminal.leader.pid) in terminal.text
    assert (fact["type"], fact["user"], fact["evidence"]) == (
        "canhazgpu.violation.opened",
        bob.name,
        "uid",
    )


def test_a_user_who_shuts_terminals_is_left_alone(told: Daemon, people: list[Person]) -> None:
    """A terminal with `mesg n` is not written to, even by root."""
    bob, _ = people
    terminal = Terminal(bob, mode=0o600)
    try:
        place(told, terminal.leader.pid)
        until(lambda: "refused" in told.run("deliveries").stdout, IN_TIME + 5)
        assert terminal.text == ""
    finally:
        terminal.close()
