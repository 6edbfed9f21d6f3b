"""Mail servers that refuse, disconnect or hang: each mail arrives once, and nothing else is delayed."""

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.daemon import Daemon, gpu, until, use
from support.mail_server import NEVER, OK, TRY_LATER, Server
from support.people import Person, Terminal

BOB = "bob@example.com"
MAIL = """
[notify.email]
enabled = true
host = "127.0.0.1"
port = {port}
tls = "{tls}"
user_address = "{{user}}@example.com"
"""
FREE = gpu(0, memory_used_mb=45)
USED = gpu(0, use(9_000_001, 1024, "bob", "python3"))
STEPS = """
[[notices.steps]]
channels = ["wall", "log", "email"]
to = ["offender"]
"""


class Mailing(Daemon):
    """Run a service that sends mail."""

    def __init__(self, folder: Path, port: int, tls: str = "none", more: str = "") -> None:
        super().__init__(folder, STEPS + MAIL.format(port=port, tls=tls) + more)
        self.start()

    def ask(self, *words: str) -> Any:
        """Return the output of a command."""
        answer = self.run(*words, "--json")
        assert answer.returncode == 0, answer.stderr + self.log.read_text()
        return json.loads(answer.stdout)

    def deliveries(self, outcome: str = "") -> list[dict[str, Any]]:
        """Return the attempts by mail, from `canhazgpu deliveries`."""
        rows = self.ask("deliveries")
        return [one for one in rows if one["channel"] == "email" and outcome in ("", one["outcome"])]

    def letters(self) -> dict[str, dict[str, Any]]:
        """Return the dead letters by recipient."""
        return {row["recipient"]: row for row in self.ask("deadletters", "list")}

    def settled(self, notices: int) -> bool:
        """Return whether this number of notices was created, and no mail is pending."""
        with self.redis() as redis:
            stream = "canhazgpu:{testhost}:notices"
            if redis.xlen(stream) != notices:
                return False
            (group,) = [one for one in redis.xinfo_groups(stream) if one["name"] == b"email"]
            behind = group["last-delivered-id"] != redis.xinfo_stream(stream)["last-generated-id"]
            return not (behind or group["pending"] or redis.zcard("canhazgpu:{testhost}:retries:email"))


@pytest.fixture
def server() -> Iterator[Server]:
    """A mail server that accepts everything until told otherwise."""
    made = Server()
    yield made
    made.controller.stop()


@pytest.fixture
def mailing(folder: Path, server: Server) -> Iterator[Mailing]:
    """A service that sends its mail there."""
    daemon = Mailing(folder, server.port)
    yield daemon
    assert daemon.stop() == 0


@pytest.fixture
def terminal(people: list[Person]) -> Iterator[Terminal]:
    """The terminal of a real user, who is the offender."""
    made = Terminal(people[0])
    yield made
    made.close()


def others_are_on_time(daemon: Daemon, terminal: Terminal) -> None:
    """Let the user use GPU 0; check that the log and the terminal do not wait for mail."""
    daemon.place(gpu(0, use(terminal.leader.pid, 1024)))
    until(daemon.facts, what="for the line in the log")
    until(lambda: terminal.first_seen("GPU 0"), what="for the line on the terminal")


def test_refused_for_a_while_the_mail_arrives_once(
    mailing: Mailing, server: Server, terminal: Terminal
) -> None:
    """After 451 at each stage, the mail arrives once; the log and the terminal do not wait for it."""
    accepts = threading.Event()

    def refuse(command: str, _address: str) -> str:
        due = command == ("DATA", "MAIL", "RCPT")[server.tries % 3]
        return TRY_LATER if due and not accepts.is_set() else OK

    server.answer = refuse
    others_are_on_time(mailing, terminal)
    mailing.place(FREE)
    until(lambda: len(mailing.facts()) == 2, what="for the end in the log, while mail is refused")
    until(lambda: "resolved" in terminal.text.lower(), what="for the end on the terminal")
    until(lambda: server.lost, 30, "for 451 after DATA")
    assert server.taken == []
    moment = time.monotonic()
    accepts.set()
    until(lambda: mailing.settled(2), 60)
    (opened_at, recipients, opened), (_, told_of_end, resolved) = server.taken
    person = opened["To"].addresses[0].username
    assert opened_at >= moment
    assert recipients == told_of_end == [f"{person}@example.com"]
    assert resolved["In-Reply-To"] == opened["Message-ID"]
    assert {mail["Message-ID"] for mail in server.lost} <= {opened["Message-ID"]}
    outcomes = Counter(row["outcome"] for row in mailing.deliveries())
    assert set(outcomes) == {"retry", "delivered"}
    assert outcomes["delivered"] == 2
    assert "\x1b" not in mailing.run("deliveries").stdout, "the server's words reached the terminal raw"


def test_refused_for_good_it_is_a_dead_letter_to_replay(mailing: Mailing, server: Server) -> None:
    """550 causes a dead letter; after a replay the mail arrives once, and so does the resolved mail."""
    server.answer = lambda command, _: NEVER if command == "RCPT" else OK
    mailing.place(USED)
    until(lambda: mailing.settled(2))  # Administrators are told that nobody was reached.
    ((recipient, letter),) = mailing.letters().items()
    assert (recipient, NEVER in letter["reason"]) == (BOB, True)
    assert server.tries == 1
    server.answer = lambda _command, _address: OK
    assert mailing.run("deadletters", "replay", letter["id"]).returncode == 0
    until(lambda: mailing.settled(3))
    again = mailing.run("deadletters", "replay", letter["id"])
    assert (again.returncode, letter["id"] in again.stderr) == (1, True)
    assert mailing.letters() == {}
    ((_, recipients, opened),) = server.taken
    assert recipients == [BOB]
    mailing.place(FREE)
    until(lambda: mailing.settled(5))
    _, recipients, resolved = server.taken[-1]
    assert (recipients, resolved["In-Reply-To"]) == ([BOB], opened["Message-ID"])
    assert len(server.taken) == 2


def test_without_starttls_nothing_is_sent_in_plain_text(folder: Path, server: Server) -> None:
    """With `tls = "starttls"`, nothing is sent to a server without it, and deliveries have the reason."""
    daemon = Mailing(folder, server.port, tls="starttls")
    try:
        daemon.place(USED)
        until(lambda: any(row["attempt"] == 2 for row in daemon.deliveries()))
        rows = daemon.deliveries()
    finally:
        assert daemon.stop() == 0
    assert {(row["recipient"], row["outcome"]) for row in rows} == {(BOB, "retry")}
    assert all("STARTTLS" in row["detail"] for row in rows)
    assert set(server.asked) <= {"QUIT"}
    assert server.taken == []


def test_a_silent_server_holds_up_nobody(folder: Path, terminal: Terminal) -> None:
    """A server that never answers delays no log line, no terminal and no stop."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        daemon = Mailing(folder, silent.getsockname()[1])
        others_are_on_time(daemon, terminal)
        connection, _ = silent.accept()
        daemon.place(FREE)
        until(lambda: len(daemon.facts()) == 2)
        until(lambda: "resolved" in terminal.text.lower())
        assert {row["outcome"] for row in daemon.deliveries()} <= {"retry"}
        began = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began < 25, "as long as it waits for a server"
        connection.close()


def test_a_password_that_is_no_text_stops_nobody_else(folder: Path, server: Server) -> None:
    """If the password file is not UTF-8, the mail waits and the service continues."""
    (folder / "password").write_bytes(b"\xff\xfe")
    daemon = Mailing(folder, server.port, "none", f'username = "gpu"\npassword_file = "{folder}/password"')
    try:
        daemon.place(USED)
        rows = until(lambda: daemon.answers() and daemon.deliveries())
        daemon.place(FREE)
        until(lambda: daemon.answers() and len(daemon.facts()) == 2)
    finally:
        daemon.stop()
    assert {row["outcome"] for row in rows} == {"retry"}


def test_broken_off_after_data_it_comes_again_as_the_same_mail(mailing: Mailing, server: Server) -> None:
    """If the connection is lost before the answer to DATA, the same mail is sent again."""
    server.answer = lambda command, _: "" if command == "DATA" and len(server.lost) < 2 else OK
    mailing.place(USED)
    until(lambda: mailing.settled(1), 60)
    ((_, recipients, mail),) = server.taken
    assert recipients == [BOB]
    assert [lost.as_bytes() for lost in server.lost] == [mail.as_bytes()] * 2
    assert {row["attempt"] for row in mailing.deliveries(outcome="delivered")} == {3}


def test_broken_off_after_it_was_taken_it_does_not_come_again(mailing: Mailing, server: Server) -> None:
    """If the connection is lost after the server accepted the mail, it is not sent again."""
    server.answer = lambda command, _: "" if command == "QUIT" else OK
    mailing.place(USED)
    until(lambda: mailing.settled(1))
    assert len(server.taken) == 1
    assert {row["attempt"] for row in mailing.deliveries(outcome="delivered")} == {1}
