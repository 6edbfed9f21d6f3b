"""The lines of the service's log: for the systemd journal, for files, and for people at a terminal."""

import contextlib
import json
import os
import pty
import subprocess
import sys

import pytest

CODE = """
import structlog
from canhazgpu.service import logs
logs.configure()
log = structlog.get_logger()
for level in ("debug", "info", "warning", "error", "critical"):
    getattr(log, level)(level, text="<3>first\\nsecond")
try:
    raise ValueError
except ValueError:
    log.exception("exception")
"""


def _lines(stream: str) -> list[str]:
    """Return what a process writes to a pipe, if $JOURNAL_STREAM names `stream`, or `this` very pipe."""
    receiving, sending = os.pipe()
    found = os.fstat(sending)
    stream = f"{found.st_dev}:{found.st_ino}" if stream == "this" else stream
    environment = {**os.environ, "JOURNAL_STREAM": stream}
    with os.fdopen(receiving) as output:
        subprocess.run([sys.executable, "-c", CODE], stderr=sending, env=environment, check=True)
        os.close(sending)
        return output.read().splitlines()


def test_the_journal_gets_the_level_as_its_priority() -> None:
    """Each line begins with the number of syslog(3); `journalctl -p warning` then shows the right ones."""
    lines = _lines("this")
    assert [line[:3] for line in lines] == ["<7>", "<6>", "<4>", "<3>", "<2>", "<3>"]
    assert [json.loads(line[3:])["event"] for line in lines][:2] == ["debug", "info"]


@pytest.mark.parametrize("stream", ["", "1:1"])
def test_nobody_else_gets_a_priority(stream: str) -> None:
    """A file and a pipe get JSON, also below a service whose variable was inherited."""
    assert [json.loads(line)["level"] for line in _lines(stream)][:3] == ["debug", "info", "warning"]


def test_a_terminal_gets_text() -> None:
    """One line for each event, with its name and its facts; what is in them cannot control the terminal."""
    terminal, other = pty.openpty()
    code = CODE.replace("<3>first", "\\x1b]0;first")
    process = subprocess.Popen([sys.executable, "-c", code], stderr=other)
    os.close(other)
    written = b""
    with os.fdopen(terminal, "rb", buffering=0) as output, contextlib.suppress(OSError):  # EIO at its end.
        while piece := output.read(4096):
            written += piece
    assert process.wait(120) == 0
    lines = written.decode().splitlines()
    assert [line.split()[1:3] for line in lines[:2]] == [["debug", "debug"], ["info", "info"]]
    assert lines[0].endswith(r'text="\u001b]0;first\nsecond"')
    assert lines[-1] == "ValueError"
    assert "\x1b" not in written.decode()
