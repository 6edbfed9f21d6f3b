"""Terminals that are closed, stuck, gone or of others: nothing blocks, nothing is forced."""

import contextlib
import json
import os
import pty
import shutil
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.daemon import Daemon, gpu, until, use
from support.notices import notice
from support.people import Pane, Person, Terminal

from canhazgpu.config.settings import Settings
from canhazgpu.notifiers.channels.terminals import terminals_of, write
from canhazgpu.notifiers.channels.wall import Wall

TEXT = b"hello\r\n"
QUICK = 60.0  # Seconds; a write that blocks takes for ever.


@pytest.fixture
def person(people: list[Person]) -> Person:
    """A user."""
    return people[0]


@pytest.fixture
def bare(person: Person) -> Iterator[tuple[int, str]]:
    """A terminal of the user that nobody reads: its master and its path."""
    master, slave = pty.openpty()
    os.fchown(slave, person.uid, -1)
    os.fchmod(slave, 0o620)
    yield master, os.ttyname(slave)
    os.close(slave)
    with contextlib.suppress(OSError):
        os.close(master)


def test_what_is_written_arrives(person: Person, bare: tuple[int, str]) -> None:
    """A message counts as delivered if the kernel accepted it."""
    master, path = bare
    assert write(path, person.uid, TEXT) == ("delivered", "")
    assert os.read(master, 100).replace(b"\r\r", b"\r") == TEXT


def test_a_session_that_utmp_does_not_know_is_told(person: Person) -> None:
    """A terminal that only a process has is found, unlike with wall(1) and write(1)."""
    terminal = Terminal(person)
    try:
        known = {f"/dev/{session.terminal}" for session in psutil.users()}
        assert terminal.path not in known
        assert terminals_of(person.uid, person.name) == [terminal.path]
        assert write(terminal.path, person.uid, TEXT) == ("delivered", "")
        until(lambda: "hello" in terminal.text)
    finally:
        terminal.close()


@pytest.mark.anyio
async def test_who_has_no_name_is_told_by_their_number(person: Person) -> None:
    """A holder without a name is found by the uid; other numbers are nobody."""
    terminal = Terminal(person)
    try:
        told = notice("python3", audience="holder", person=str(person.uid))
        names = [str(person.uid), f"{str(person.uid)[0]}_{str(person.uid)[1:]}", "nosuch"]
        outcomes = await Wall(Settings()).deliver(told, names, None)
        assert [one.verdict for one in outcomes] == ["delivered", "nobody", "nobody"]
        until(lambda: "GPU 0" in terminal.text)
    finally:
        terminal.close()


def test_one_closed_to_messages_is_left_alone(person: Person, bare: tuple[int, str]) -> None:
    """`mesg n` is respected, also by root."""
    _, path = bare
    Path(path).chmod(0o600)
    assert write(path, person.uid, TEXT)[0] == "refused"


def test_one_that_nobody_reads_is_stuck_and_does_not_block(person: Person, bare: tuple[int, str]) -> None:
    """A full terminal is stuck, without a wait."""
    _, path = bare
    began = time.monotonic()
    verdicts = {write(path, person.uid, b"x" * 1000)[0] for _ in range(200)}
    assert time.monotonic() - began < QUICK
    assert verdicts == {"delivered", "stuck"}


def test_one_that_was_stopped_is_stuck_and_does_not_block(person: Person, bare: tuple[int, str]) -> None:
    """A terminal stopped by Ctrl-S is stuck until Ctrl-Q."""
    master, path = bare
    slave = os.open(path, os.O_RDWR | os.O_NOCTTY)
    termios.tcflow(slave, termios.TCOOFF)
    began = time.monotonic()
    assert write(path, person.uid, TEXT)[0] == "stuck"
    assert time.monotonic() - began < QUICK
    termios.tcflow(slave, termios.TCOON)
    assert write(path, person.uid, TEXT)[0] == "delivered"
    assert b"hello" in os.read(master, 100)
    os.close(slave)


def test_one_that_has_gone_is_gone(person: Person) -> None:
    """A terminal that is closed before it is written to is gone."""
    master, slave = pty.openpty()
    path = os.ttyname(slave)
    os.close(slave)
    os.close(master)
    assert write(path, person.uid, TEXT)[0] == "gone"


def test_one_that_was_hung_up_is_gone(person: Person) -> None:
    """A terminal whose other end is closed is gone, even if a process still holds it."""
    master, slave = pty.openpty()
    os.fchown(slave, person.uid, -1)
    os.fchmod(slave, 0o620)
    path = os.ttyname(slave)
    os.close(master)
    assert write(path, person.uid, TEXT)[0] == "gone"
    os.close(slave)


def test_somebody_elses_is_never_written_to(people: list[Person]) -> None:
    """The owner is checked on the open file."""
    terminal = Terminal(people[1])
    try:
        assert write(terminal.path, people[0].uid, TEXT)[0] == "refused"
        assert terminal.text == ""
    finally:
        terminal.close()


def test_what_is_no_terminal_is_never_written_to(person: Person, tmp_path: Path) -> None:
    """A file, a fifo, another device or a link is refused, and nothing blocks."""
    file, fifo, link = tmp_path / "file", tmp_path / "fifo", tmp_path / "link"
    file.touch()
    os.mkfifo(fifo)
    terminal = Terminal(person)
    link.symlink_to(terminal.path)
    for path in (file, fifo):
        os.chown(path, person.uid, -1)
        path.chmod(0o620)
    try:
        began = time.monotonic()
        for path in (file, fifo, link, Path("/dev/null"), tmp_path):
            assert write(str(path), person.uid, TEXT)[0] == "refused", path
        assert time.monotonic() - began < QUICK
        assert file.read_bytes() == b""
        assert terminal.text == ""
    finally:
        terminal.close()


def test_a_persons_terminals_are_found_by_their_processes(people: list[Person]) -> None:
    """Each terminal of the user is found once, including panes of tmux, and none of others."""
    if not shutil.which("tmux"):
        pytest.skip("tmux is not installed")
    with contextlib.ExitStack() as closing:
        mine = [Terminal(people[0]), Terminal(people[0])]
        pane = Pane(people[0])
        closing.callback(pane.close)
        other = Terminal(people[1])
        for terminal in (*mine, other):
            closing.callback(terminal.close)
        expected = sorted([*(one.path for one in mine), pane.path])
        # The process in the pane gets its terminal some time after tmux has started it.
        until(lambda: len(terminals_of(people[0].uid, people[0].name)) == len(expected))
        assert sorted(terminals_of(people[0].uid, people[0].name)) == expected
        assert terminals_of(people[1].uid, people[1].name) == [other.path]


def test_a_stuck_terminal_delays_neither_the_next_one_nor_the_log(host: Daemon, people: list[Person]) -> None:
    """The outcome of each terminal is recorded, and a working one shows the message in time."""
    stuck, read = Terminal(people[0]), Terminal(people[0])
    slave = os.open(stuck.path, os.O_RDWR | os.O_NOCTTY)
    termios.tcflow(slave, termios.TCOOFF)
    try:
        host.place(gpu(0, use(stuck.leader.pid, 1024)))
        until(lambda: "GPU 0" in read.text, 20)
        until(lambda: "stuck" in host.run("deliveries").stdout and host.facts(), 20)
        shown = host.run("deliveries").stdout
        assert "delivered" in shown
        assert stuck.path.removeprefix("/dev/") in shown
    finally:
        os.close(slave)
        stuck.close()
        read.close()


def test_everyone_is_told_by_wall(folder: Path, people: list[Person]) -> None:
    """With `audience = "everyone"`, wall(1) gets the text, and delivery is not claimed."""
    daemon = Daemon(folder, '[notify.wall]\naudience = "everyone"\n').start()
    process = people[0].spawn("sleep", "60")
    try:
        daemon.place(gpu(0, use(process.pid, 1024)))
        until(lambda: "everyone" in daemon.run("deliveries").stdout, 10)
        assert "unproven" in daemon.run("deliveries").stdout
        rows = json.loads(daemon.run("deliveries", "--json").stdout)
        assert {row["outcome"] for row in rows if row["channel"] == "wall"} == {"unproven"}
    finally:
        process.kill()
        process.wait()
        assert daemon.stop() == 0
