"""A hostile process name is harmless wherever it is shown."""

import json
import re
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

import pytest
from support.audit_log import whole_lines
from support.daemon import Daemon, gpu, until
from support.hostile import harm, on_a_terminal, toml
from support.people import Person, Terminal

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


@pytest.mark.parametrize("kind", NAMES)
def test_a_hostile_name_is_harmless_everywhere(
    mailing: tuple[Daemon, Path], people: list[Person], kind: str
) -> None:
    """Terminal, mail and log contain no active text."""
    daemon, mails = mailing
    bob = people[0]
    terminal = Terminal(bob)
    try:
        name = toml(NAMES[kind])
        daemon.place(gpu(0, f"pid = {terminal.leader.pid};memory_mb = 1024;name = {name}"))
        until(lambda: "canhazgpu status" in terminal.text)
        eml = until(lambda: next(mails.glob("*.eml"), None))
        lines = until(lambda: whole_lines(daemon.folder / "violations.log"))
    finally:
        terminal.close()

    assert harm(terminal.text, "\r\n\a") == set()
    assert len(terminal.text) <= 1024
    assert f"PID {terminal.leader.pid} (" in terminal.text

    mail = message_from_bytes(eml.read_bytes(), policy=default)
    assert isinstance(mail, EmailMessage)
    assert mail["Bcc"] is None
    assert set(mail.keys()) == {
        *("Subject", "From", "To", "Date", "Message-ID", "Auto-Submitted", "X-Canhazgpu-Notice"),
        *("Content-Type", "MIME-Version"),
    }
    bodies = [str(part.get_content()).replace("\r\n", "\n") for part in mail.iter_parts()]
    assert len(bodies) == 2
    for body in bodies:
        assert harm(body, "\n") == set()
        assert not re.search(r"^GPU 7", body, re.MULTILINE)
    assert "<script" not in bodies[1]

    assert [json.loads(one)["user"] for one in lines] == [bob.name] * len(lines)
    for one in lines:
        assert harm(one.decode("ascii"), "\n") == set()
        assert len(one) < 4096


def test_hostile_names_are_harmless_in_every_list(mailing: tuple[Daemon, Path]) -> None:
    """Status, violations, deliveries and events contain no active text of any kind."""
    daemon, mails = mailing
    names = enumerate(map(toml, NAMES.values()))
    daemon.place(
        *(
            gpu(index, f'pid = {999_980 + index};memory_mb = 1024;user = "bob";name = {name}')
            for index, name in names
        )
    )
    until(lambda: daemon.status().count("WITHOUT") == len(daemon.facts()) == len(NAMES))
    until(lambda: next(mails.glob("*.eml"), None))
    for words in (
        *(["status"], ["status", "--long"], ["who"], ["violations"], ["violations", "--csv"]),
        *(["deliveries"], ["events"]),
    ):
        assert harm(daemon.run(*words).stdout, "\r\n") == set(), words
    for words in (["status", "--json"], ["who", "--json"], ["violations", "--json"], ["events", "--json"]):
        assert harm(daemon.run(*words).stdout, "\n") == set(), words
    assert len(daemon.status().splitlines()) == len(NAMES)
    shown = re.sub(r"\x1b\[\d+m", "", on_a_terminal(daemon, "status"))
    assert harm(shown, "\r\n") == set()
    assert harm(on_a_terminal(daemon, "events"), "\r\n") == set()
    assert max(map(len, shown.splitlines())) < 300


def test_a_real_process_with_a_hostile_name_is_harmless(
    mailing: tuple[Daemon, Path], people: list[Person]
) -> None:
    """A hostile name in /proc is read safely."""
    daemon, _ = mailing
    program = "import time; open('/proc/self/comm', 'wb').write(b'\\x1b[2J\\r\\nx) R 1'); time.sleep(600)"
    process = people[0].spawn("/usr/bin/env", "python3", "-c", program)
    try:
        until(lambda: b"\x1b" in Path(f"/proc/{process.pid}/comm").read_bytes())
        daemon.place(gpu(0, f"pid = {process.pid};memory_mb = 1024"))
        line = until(lambda: "WITHOUT" in daemon.status() and daemon.status())
    finally:
        process.kill()
        process.wait()
    assert f"by user {people[0].name} - 1024MB used by PID {process.pid} (\\x1b[2J\\r\\nx) R 1)" in line
