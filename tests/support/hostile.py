"""What text made to do harm is written with, how harm is recognised, and a service that sends mail."""

import contextlib
import os
import pty
import subprocess
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from support.daemon import COMMAND, PATIENCE, Daemon

from canhazgpu.cli.demo.mail_sink import MailSink

HARMFUL = {"Cc", "Cf", "Cs", "Zl", "Zp"}
MAIL = """
[[notices.steps]]
channels = ["wall", "email", "log"]
to = ["offender"]
[[notices.steps]]
channels = ["email"]
to = ["admins"]
[notify.email]
enabled = true
host = "127.0.0.1"
port = {port}
user_address = "{{user}}@example.com"
admins = ["admins@example.com"]
"""


def harm(text: str, allowed: str) -> set[str]:
    """Return the characters of `text` that no reader should get, but for those that belong there."""
    return {char for char in text if unicodedata.category(char) in HARMFUL and char not in allowed}


def toml(text: str) -> str:
    """Return `text` as a TOML string without anything that means something in a scenario."""
    pieces = (char if char.isascii() and char.isalnum() else f"\\U{ord(char):08x}" for char in text)
    return f'"{"".join(pieces)}"'


def on_a_terminal(daemon: Daemon, *words: str) -> str:
    """Return what a command shows on a terminal."""
    master, slave = pty.openpty()
    process = subprocess.Popen([*COMMAND, *words], env=daemon.environment, stdout=slave, stderr=slave)
    os.close(slave)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: the command has ended.
        while chunk := os.read(master, 65536):
            shown += chunk
    os.close(master)
    assert process.wait(PATIENCE) == 0
    return shown.decode()


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
