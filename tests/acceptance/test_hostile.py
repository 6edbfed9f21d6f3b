"""Hostile text against scripts, spreadsheets, terminals and quoted mail."""

import csv
import io
import json
import re
import subprocess
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

import pytest
from support.daemon import COMMAND, PATIENCE, Daemon, gpu, until
from support.hostile import harm, on_a_terminal, toml

SED = r"s/.*by users\? \([^-]*\) -.*/\1/p"
NASTY = "\x1b[2J\r\nBcc: victim@example.com\r\n\r\nGPU 7\0\u202e\x9b"


def _used(user: str, name: str) -> str:
    line = f"pid = 4000001;memory_mb = 1024;user = {toml(user)};name = {toml(name)}"
    return gpu(0, line, memory_used_mb=45)


@pytest.mark.parametrize("name", ["by user root - 1", "by users a - b", "x by user al -"])
def test_a_process_name_cannot_put_the_blame_on_another(host: Daemon, name: str) -> None:
    """A process name cannot change the user that `sed` finds in a line of `status`."""
    host.place(_used("bob", name))
    line = until(lambda: "WITHOUT" in (shown := host.status()) and shown)
    found = subprocess.run(["sed", "-n", SED], input=line, capture_output=True, text=True, check=True)
    assert found.stdout == "bob\n"
    match = re.search(r"by users? ([^-]+) - (\d+)MB", line)
    assert match
    assert match.groups() == ("bob", "1024")


def test_hostile_names_stay_harmless_when_it_is_over(mailing: tuple[Daemon, Path]) -> None:
    """A hostile user name adds no header and no line to a mail."""
    daemon, mails = mailing
    daemon.place(_used(NASTY, NASTY))
    until(lambda: len(list(mails.glob("*.eml"))) == 1)
    daemon.place(gpu(0, memory_used_mb=45))
    both = until(lambda: len(found := list(mails.glob("*.eml"))) == 2 and found)
    for eml in both:
        mail = message_from_bytes(eml.read_bytes(), policy=default)
        assert mail["Bcc"] is None
        assert mail["To"] == "admins@example.com"
        assert isinstance(mail, EmailMessage)
        bodies = [str(part.get_content()) for part in mail.iter_parts()]
        assert len(bodies) == 2
        for text in (str(mail["Subject"]), *bodies):
            assert harm(text, "\r\n") == set()
            assert not re.search(r"^(GPU 7|Bcc)", text, re.MULTILINE)
        assert all("victim" not in str(mail[name]) for name in mail if name != "Subject")


def test_no_command_passes_control_characters_on(mailing: tuple[Daemon, Path]) -> None:
    """On a terminal, only the colours of the command itself appear."""
    daemon, mails = mailing
    daemon.place(_used(NASTY, NASTY))
    until(lambda: list(mails.glob("*.eml")))
    for word in ("status", "violations", "deliveries", "events"):
        shown = re.sub(r"\x1b\[\d+m", "", on_a_terminal(daemon, word))
        assert shown, word
        assert harm(shown, "\r\n") == set(), word
        assert not re.search(r"^(GPU 7|Bcc)", shown, re.MULTILINE), word


def test_a_spreadsheet_runs_nothing(host: Daemon) -> None:
    """A user name that is a formula is text in the CSV, and each violation is one row."""
    host.place(_used('=cmd|"/c calc"!A1,\n"', "x"))
    until(host.facts)
    header, row = csv.reader(io.StringIO(host.run("violations", "--csv").stdout))
    told = dict(zip(header, row, strict=True))
    assert told["user"].startswith("'=cmd")
    assert told["gpu"] == "0"


@pytest.mark.parametrize("name", ["日本語", "A" * 200])
def test_a_reader_without_unicode_still_gets_the_line(host: Daemon, name: str) -> None:
    """With an ASCII locale, other characters are escaped, and no command fails."""
    host.place(_used(name, name))
    until(host.facts)
    plain = {**host.environment, "PYTHONIOENCODING": "ascii"}
    for word in ("status", "violations", "events", "deliveries"):
        done = subprocess.run([*COMMAND, word], env=plain, capture_output=True, check=False, timeout=PATIENCE)
        assert (done.returncode, done.stderr.decode()) == (0, ""), word
        assert done.stdout.isascii(), word


def test_json_carries_what_is_said_and_nothing_else(host: Daemon) -> None:
    """JSON is ASCII and valid, with the escaped name, one event per line."""
    host.place(_used("bob", NASTY))
    until(host.facts)
    for words in (("status", "--json"), ("violations", "--json"), ("events", "--json")):
        text = host.run(*words).stdout
        assert text.isascii()
        assert harm(text, "\n") == set()
    events = [json.loads(line) for line in host.run("events", "--json").stdout.splitlines()]
    assert len({event["stream_id"] for event in events}) == len(events)
