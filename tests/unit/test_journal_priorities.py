"""The priorities of the service's log lines in the systemd journal."""

import json
import os
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
    """A file, a pipe and a terminal get JSON, also below a service whose variable was inherited."""
    assert [json.loads(line)["level"] for line in _lines(stream)][:3] == ["debug", "info", "warning"]
