"""Mail servers that misbehave: nobody gets a mail twice, none is lost, and nobody else waits for them."""

import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.daemon import Daemon, gpu, until, use
from support.smtp import MailServer

REFUSED_FOR = float(os.environ.get("MAIL_REFUSED_FOR", "4"))  # Seconds; 60 by hand.
BOB, ADMIN = "bob@example.com", "admin@example.com"
MAIL = """
[notify.email]
enabled = true
host = "127.0.0.1"
port = {port}
tls = "{tls}"
user_address = "{{user}}@example.com"
admins = ["admin@example.com"]
"""
USED = gpu(0, use(999_999, 1024, "bob", "python3"), memory_used_mb=45)
FREE = gpu(0, memory_used_mb=45)
IN_TIME = 2.5  # Seconds: 0.5 to see and confirm, the rest for a slow machine.


@pytest.fixture
def server() -> Iterator[MailServer]:
    """A mail server."""
    made = MailServer()
    yield made
    made.stop()


def _host(folder: Path, port: int, tls: str = "none") -> Daemon:
    return Daemon(folder, MAIL.format(port=port, tls=tls)).start()


@pytest.fixture
def mailing(folder: Path, server: MailServer) -> Iterator[Daemon]:
    """A service that sends mail to the server."""
    daemon = _host(folder, server.port)
    yield daemon
    assert daemon.stop() == 0


def _deliveries(daemon: Daemon, channel: str) -> list[dict[str, Any]]:
    rows = json.loads(daemon.run("deliveries", "--json").stdout)
    return [row for row in rows if row["channel"] == channel]


def _letters(daemon: Daemon) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(daemon.run("deadletters", "list", "--json").stdout)
    return found


@pytest.mark.timeout(300)
def test_refused_for_a_while_it_arrives_once_and_nothing_else_was_late(
    mailing: Daemon, server: MailServer
) -> None:
    """451 to every recipient for a time, then 250: one mail; log and terminals were on time all along."""
    accepts = time.monotonic() + REFUSED_FOR
    server.refuse_recipient = lambda _: "451 4.7.1 try later" if time.monotonic() < accepts else None
    began = time.monotonic()
    mailing.place(USED)
    until(mailing.facts, IN_TIME)
    until(lambda: _deliveries(mailing, "wall"), IN_TIME)
    assert time.monotonic() - began < IN_TIME + 1
    until(lambda: server.mails, REFUSED_FOR * 2 + 5)
    until(lambda: [row for row in _deliveries(mailing, "email") if row["outcome"] == "delivered"], 5)
    if REFUSED_FOR < 10:
        time.sleep(2.5)  # Longer than the next attempt would have waited.
    (arrived, recipients, mail) = server.mails[0]
    assert len(server.mails) == 1
    assert arrived >= accepts
    assert set(recipients) == {BOB, ADMIN}
    assert "bob" in str(mail["Subject"])
    assert len({row["attempt"] for row in _deliveries(mailing, "email")}) > 1


def test_refused_for_good_it_is_a_dead_letter_that_can_be_replayed(
    mailing: Daemon, server: MailServer
) -> None:
    """550 is not tried again: it is listed, and sent once when an administrator says so."""
    server.refuse_recipient = lambda _: "550 5.1.1 no such user"
    mailing.place(USED)
    until(lambda: len(_letters(mailing)) == 2, 5)
    tried = len(server.tried)
    assert {letter["recipient"] for letter in _letters(mailing)} == {BOB, ADMIN}
    assert all("550" in letter["reason"] for letter in _letters(mailing))
    assert "550" in mailing.run("deadletters", "list").stdout
    server.refuse_recipient = lambda _: None
    mine = next(letter for letter in _letters(mailing) if letter["recipient"] == BOB)
    assert len(server.tried) == tried, "it was tried again by itself"
    replayed = mailing.run("deadletters", "replay", mine["id"])
    assert replayed.returncode == 0, replayed.stderr
    until(lambda: server.mails, 5)
    until(lambda: [row for row in _deliveries(mailing, "email") if row["outcome"] == "delivered"], 5)
    assert [recipients for _, recipients, _ in server.mails] == [(BOB,)]
    assert [letter["recipient"] for letter in _letters(mailing)] == [ADMIN]
    again = mailing.run("deadletters", "replay", mine["id"])
    assert again.returncode == 1
    assert "Traceback" not in again.stderr


def test_one_recipient_refused_does_not_repeat_the_mail_to_the_other(
    mailing: Daemon, server: MailServer
) -> None:
    """One taken and one told to wait: the first gets one mail, the second gets it later."""
    accepts = time.monotonic() + 2
    server.refuse_recipient = lambda address: (
        "450 mailbox busy" if address == BOB and time.monotonic() < accepts else None
    )
    mailing.place(USED)
    until(lambda: server.to(BOB), 10)
    assert (len(server.to(BOB)), len(server.to(ADMIN))) == (1, 1)
    assert server.to(BOB)[0]["Message-ID"] == server.to(ADMIN)[0]["Message-ID"]


def test_a_line_lost_after_the_mail_was_taken_brings_the_same_message_id(
    mailing: Daemon, server: MailServer
) -> None:
    """When the server vanishes before it answers, the mail comes again under the same Message-ID."""

    def vanish(connection: Any) -> str | None:
        if len(server.mails) == 1:
            connection.transport.abort()
        return None

    server.after_data = vanish
    mailing.place(USED)
    until(lambda: len(server.mails) == 2, 10)
    first, second = (mail for _, _, mail in server.mails)
    assert first["Message-ID"] == second["Message-ID"]


def test_without_starttls_nothing_is_sent_in_the_clear(folder: Path, server: MailServer) -> None:
    """`tls = "starttls"` against a server without it: no mail, and the reason is in the deliveries."""
    daemon = _host(folder, server.port, tls="starttls")
    daemon.place(USED)
    rows = until(lambda: _deliveries(daemon, "email"), 5)
    assert daemon.stop() == 0
    assert {row["outcome"] for row in rows} == {"retry"}
    assert "STARTTLS" in rows[0]["detail"].upper()
    assert server.tried == []


def test_a_silent_server_holds_up_nobody(folder: Path) -> None:
    """A server that takes the connection and says nothing delays neither the log nor the end."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        daemon = _host(folder, silent.getsockname()[1])
        daemon.place(USED)
        until(daemon.facts, IN_TIME)
        daemon.place(FREE)
        until(lambda: len(daemon.facts()) == 2, IN_TIME)
        began = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began < 5


def test_the_end_is_told_to_those_who_were_told_in_the_same_thread(
    mailing: Daemon, server: MailServer
) -> None:
    """The resolved mail answers the first one."""
    mailing.place(USED)
    until(lambda: server.mails, 5)
    mailing.place(FREE)
    until(lambda: len(server.mails) == 2, 5)
    (_, _, opened), (_, recipients, resolved) = server.mails
    assert set(recipients) == {BOB, ADMIN}
    assert resolved["In-Reply-To"] == opened["Message-ID"]
    assert "resolved" in str(resolved["Subject"])
    assert opened["Auto-Submitted"] == "auto-generated"
