"""The programs in docs/examples, run as they are on a real service."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.daemon import Daemon, gpu, until, use
from support.receiver import Receiver, answer, receiving

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
USED = gpu(0, use(999_999, 1024, "bob", "python3"), memory_used_mb=45)
FREE = gpu(0, memory_used_mb=45)


def example(name: str, folder: Path, **words: str) -> Path:
    """Write a program with this host's paths and names into a folder; return its path."""
    text = (EXAMPLES / name).read_text()
    for old, new in words.items():
        assert old in text
        text = text.replace(old, new)
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return path


@contextmanager
def running(command: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in a session of its own, and end it with what it has started."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=environment, start_new_session=True
        )
    try:
        yield process
        assert process.poll() is None, log.read_text()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def tickets(receiver: Receiver) -> list[tuple[str, str]]:
    """Return the id and the state in each request."""
    found: list[tuple[str, Any]] = [
        (one.path.rpartition("/")[2], json.loads(one.body)["state"]) for one in receiver.taken
    ]
    return found


def test_a_ticket_is_opened_and_closed(host: Daemon) -> None:
    """Each violation is one ticket; while the other system is away, events wait; a restart repeats none."""
    with receiving() as receiver:
        receiver.behaviour = answer(503)
        words = {
            "unix:///var/lib/canhazgpu/redis": f"unix://{host.folder}/state/redis",
            '"gpu-host-1"': '"testhost"',
            "http://tickets.example.com": receiver.url,
            "/var/lib/tickets": str(host.folder),
        }
        command = [sys.executable, str(example("open_tickets.py", host.folder, **words))]
        log = host.folder / "tickets.log"
        host.place(USED)
        with running(command, dict(os.environ), log):
            until(lambda: len(receiver.taken) >= 2, 30)
            receiver.behaviour = answer(200)
            before = len(receiver.taken)
            until(lambda: len(receiver.taken) > before, 30)
            host.place(FREE)
            until(lambda: tickets(receiver)[-1][1] == "closed", 30)
            until(lambda: not unacknowledged(host), 10)
        before = len(receiver.taken)
        host.place(USED)
        with running(command, dict(os.environ), log):
            until(lambda: len(receiver.taken) > before, 30)
        (first, _), *_ = tickets(receiver)
        assert {one for one, _ in tickets(receiver)[:before]} == {first}
        ((second, state),) = tickets(receiver)[before:]
        assert (second != first, state) == (True, "open")
        assert not (host.folder / "dead-letters.jsonl").exists()


def unacknowledged(host: Daemon) -> int:
    """Return the number of the group's pending entries."""
    with host.redis() as client:
        return int(client.xpending("canhazgpu:{testhost}:violations", "tickets")["pending"])


def documented(begin: str, host: Daemon) -> str:
    """Return a program of docs/events.md, with this host's names."""
    text = (EXAMPLES.parent / "events.md").read_text()
    blocks: list[str] = re.findall(r"^```python\n(.+?)^```", text, re.MULTILINE | re.DOTALL)
    (block,) = [one for one in blocks if begin in one]
    text = block.replace("gpu-host-1", "testhost").replace("/var/lib/canhazgpu", f"{host.folder}/state")
    return text.replace("/var/lib/billing", str(host.folder))


def test_the_programs_in_the_document_work(host: Daemon) -> None:
    """The consumer prints each violation, and `follow` each reservation, from the beginning of the stream."""
    log, other = host.folder / "consumer.log", host.folder / "follow.log"
    host.place(USED)
    consumer = [sys.executable, "-c", documented("Consumer(", host)]
    following = [sys.executable, "-c", documented("follow(", host)]
    with running(consumer, dict(os.environ), log):
        until(lambda: log.read_text() == "canhazgpu.violation.opened bob 0\n", 30)
        host.place(FREE)
        until(lambda: log.read_text().splitlines()[1:] == ["canhazgpu.violation.closed bob 0"], 30)
        with running(following, dict(os.environ), other):
            assert host.run("reserve", "--gpus", "1", "--duration", "1h").returncode == 0
            until(lambda: " canhazgpu.reservation.created " in other.read_text(), 30)


def test_a_line_is_written_for_each_reservation(host: Daemon) -> None:
    """The shell consumer continues where it stopped, with what happened meanwhile."""
    host.place(FREE)
    words = {"/var/lib/accounting": str(host.folder)}
    command = ["sh", str(example("write_lines.sh", host.folder, **words))]
    binaries = str(Path(sys.executable).parent)
    environment = {**host.environment, "PATH": f"{binaries}:{os.environ['PATH']}"}
    lines, place = host.folder / "reservations.tsv", host.folder / "place"
    log = host.folder / "lines.log"

    def finish() -> None:
        assert host.run("reserve", "--gpus", "1", "--duration", "1h").returncode == 0
        assert host.run("release").returncode == 0

    def written(count: int) -> bool:
        return lines.exists() and len(lines.read_text().splitlines()) == count and place.exists()

    finish()
    with running(command, environment, log):
        until(lambda: written(1), 30)
        finish()
        until(lambda: written(2), 30)
        until(lambda: place.read_text().partition("-")[2] != "", 10)
    kept = place.read_text()
    finish()
    with running(command, environment, log):
        until(lambda: written(3), 30)
        until(lambda: place.read_text() != kept, 10)
    rows = [line.split("\t") for line in lines.read_text().splitlines()]
    assert [row[2:] for row in rows] == [["released", "1"]] * 3
    assert log.read_text() == ""
