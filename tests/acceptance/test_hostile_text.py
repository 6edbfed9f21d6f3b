"""A process name made to do harm comes out harmless wherever it is shown."""

import json
import os
import pty
import re
import subprocess
import unicodedata
from collections.abc import Iterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from threading import Thread

import pytest
from support.daemon import COMMAND, Daemon, gpu, until
from support.people import Person, Terminal

from canhazgpu.cli.demo_mail import MailSink

NAMES = {
    "escapes": "\x1b]0;owned\x07\x1b[2J\x1b[31mred",
    "line ends": "python\r\nBcc: victim@example.com\r\n\r\nGPU 7: AVAILABLE",
    "nul": "py\0thon",
    "right to left": "\u202egpj.exe\u2066\u200f",
    "controls of the second kind": "\x9b2J\x9dx\x85y\u2028z\u2029",
    "64 kB": "A" * 65536,
    "half a character": "snow\ufffd\U000e0041",
    "format": "%s%n{0}${HOME}`id`</td><script>alert(1)</script>",
}
MAIL = """
[notify.email]
enabled = true
host = "127.0.0.1"
port = {port}
user_address = "{{user}}@example.com"
admins = ["admins@example.com"]
"""
HARMFUL = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def _harm(text: str, *allowed: str) -> set[str]:
    return {char for char in text if unicodedata.category(char) in HARMFUL and char not in allowed}


def _toml(text: str) -> str:
    """Return `text` as a TOML string; `;` separates assignments in a scenario's process."""
    pieces = (char if " " <= char <= "~" and char not in '"\\;' else f"\\U{ord(char):08x}" for char in text)
    return f'"{"".join(pieces)}"'


@pytest.fixture
def mailing(folder: Path) -> Iterator[tuple[Daemon, Path]]:
    """A service that sends mail, and the folder the mails come to."""
    mails = folder / "mail"
    mails.mkdir()
    with MailSink(mails) as sink:
        Thread(target=sink.serve_forever, daemon=True).start()
        daemon = Daemon(folder, MAIL.format(port=sink.server_address[1])).start()
        yield daemon, mails
        assert daemon.stop() == 0
        sink.shutdown()


def _on_a_terminal(daemon: Daemon, *words: str) -> str:
    master, slave = pty.openpty()
    process = subprocess.Popen([*COMMAND, *words], env=daemon.environment, stdout=slave, stderr=slave)
    os.close(slave)
    shown = b""
    try:
        while chunk := os.read(master, 65536):
            shown += chunk
    except OSError:  # EIO: the command has ended.
        pass
    finally:
        os.close(master)
    assert process.wait(10) == 0
    return shown.decode()


@pytest.mark.parametrize("kind", NAMES)
def test_a_hostile_name_is_harmless_everywhere(
    mailing: tuple[Daemon, Path], people: list[Person], kind: str
) -> None:
    """Terminal, mail, log, status, violations, deliveries, events: nothing acts, nothing overflows."""
    daemon, mails = mailing
    bob = people[0]
    terminal = Terminal(bob)
    try:
        name = _toml(NAMES[kind])
        daemon.place(gpu(0, f"pid = {terminal.leader.pid};memory_mb = 1024;name = {name}"))
        until(lambda: "canhazgpu status" in terminal.text, 10)
        eml = until(lambda: next(mails.glob("*.eml"), None), 10)
        line = until((daemon.folder / "violations.log").read_bytes, 5)
    finally:
        terminal.close()

    assert _harm(terminal.text, "\r", "\n", "\a") == set()
    assert len(terminal.text) <= 1024
    assert f"PID {terminal.leader.pid} (" in terminal.text

    mail = message_from_bytes(eml.read_bytes(), policy=default)
    assert isinstance(mail, EmailMessage)
    assert mail["Bcc"] is None
    assert set(mail.keys()) == {
        *("Subject", "From", "To", "Cc", "Date", "Message-ID", "Auto-Submitted", "X-Canhazgpu-Notice"),
        *("Content-Type", "Content-Transfer-Encoding", "MIME-Version"),
    }
    body = str(mail.get_content()).replace("\r\n", "\n")
    assert _harm(body, "\n") == set()
    assert not re.search(r"^GPU 7", body, re.MULTILINE)

    assert line.count(b"\n") == 1
    assert _harm(line.decode("ascii"), "\n") == set()
    assert json.loads(line)["user"] == bob.name
    assert len(line) < 4096

    for words in (["status"], ["violations"], ["deliveries"], ["events"], ["violations", "--csv"]):
        assert _harm(daemon.run(*words).stdout, "\n", "\r") == set(), words
    for words in (["status", "--json"], ["violations", "--json"], ["events", "--json"]):
        assert _harm(daemon.run(*words).stdout, "\n") == set(), words
    assert len(daemon.status().splitlines()) == 1
    shown = re.sub(r"\x1b\[\d+m", "", _on_a_terminal(daemon, "status"))
    assert _harm(shown, "\r", "\n") == set()
    assert _harm(_on_a_terminal(daemon, "events"), "\r", "\n") == set()
    assert len(shown) < 300


def test_a_real_process_with_a_hostile_name_is_harmless(
    mailing: tuple[Daemon, Path], people: list[Person]
) -> None:
    """The kernel's own record of a name is read with the same care."""
    daemon, _ = mailing
    program = "import time; open('/proc/self/comm', 'wb').write(b'\\x1b[2J\\r\\nx) R 1'); time.sleep(60)"
    process = people[0].spawn("/usr/bin/env", "python3", "-c", program)
    try:
        until(lambda: b"\x1b" in Path(f"/proc/{process.pid}/comm").read_bytes(), 10)
        daemon.place(gpu(0, f"pid = {process.pid};memory_mb = 1024"))
        line = until(lambda: "WITHOUT" in daemon.status() and daemon.status(), 5)
    finally:
        process.kill()
        process.wait()
    assert f"by user {people[0].name} - 1024MB used by PID {process.pid} (\\x1b[2J\\r\\nx) R 1)" in line
