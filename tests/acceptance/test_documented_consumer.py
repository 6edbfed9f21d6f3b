"""The consumer in docs/events.md, run as it is, on a service whose streams are trimmed."""

import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.daemon import Daemon, gpu, until, use

DOCUMENT = (Path(__file__).parents[2] / "docs" / "events.md").read_text()
STREAM = "canhazgpu:{testhost}:violations"
USED = gpu(0, use(999_999, 1024, "bob", "python3"), memory_used_mb=45)
FREE = gpu(0, memory_used_mb=45)
ENTRIES, BYTES = 4500, 10_000  # More than twice what there is room for.


def program(host: Daemon) -> str:
    """Return the document's program, with this host's name and socket."""
    (block,) = re.findall(r"^    import json\n(?:    .*\n|\n)+", DOCUMENT, re.MULTILINE)
    text = textwrap.dedent(block).replace("{gpu-host-1}", "{testhost}")
    return text.replace("/var/lib/canhazgpu", f"{host.folder}/state")


@contextmanager
def consuming(host: Daemon) -> Iterator[Path]:
    """Run it; what it prints is in the file."""
    output = host.folder / "consumer"
    with output.open("wb") as log:
        process = subprocess.Popen([sys.executable, "-c", program(host)], stdout=log, stderr=log)
    try:
        yield output
        assert process.poll() is None, output.read_text()
    finally:
        process.kill()
        process.wait()


def lines(output: Path) -> list[str]:
    """Return its output lines; for events only the type."""
    return [
        line.split(" ", 1)[0] if line.startswith("canhazgpu.") else line
        for line in output.read_text().splitlines()
    ]


def number_of_last(host: Daemon) -> int:
    """Return the id of the last entry of the stream."""
    with host.redis() as client:
        ((key, _),) = client.xrevrange(STREAM, count=1)
    return int(key.split(b"-")[1])


def fill(host: Daemon) -> None:
    """Append very large entries, numbered like the service does."""
    with host.redis() as client:
        first = number_of_last(host) + 1
        pipe = client.pipeline(transaction=False)
        fields = {"type": "canhazgpu.test", "data": '"' + "x" * BYTES + '"'}
        for entry in range(first, first + ENTRIES):
            pipe.xadd(STREAM, fields, id=f"{2 * 10**12}-{entry}")
        pipe.execute()


@pytest.mark.timeout(900)
def test_it_is_told_how_many_entries_are_missing(folder: Path) -> None:
    """It reports no gap at first, and the exact number of missing entries after its entries were trimmed."""
    host = Daemon(folder, "[streams]\nmemory_mb = 16\n").start()
    try:
        host.place(USED)
        until(lambda: len(host.facts()) == 1)
        with consuming(host) as output:
            until(lambda: lines(output) == ["canhazgpu.violation.opened"])
            host.place(FREE)
            until(lambda: lines(output)[1:] == ["canhazgpu.violation.closed"])
            until(lambda: not unacknowledged(host))
        read = number_of_last(host)
        fill(host)
        host.stop()
        host.start()  # It trims at once, and then every minute.
        until(lambda: "is abandoned" in host.run("doctor").stdout)
        said = host.run("doctor").stdout
        assert "the streams would exceed streams.memory_mb" in said
        with host.redis() as client:
            kept = client.xlen(STREAM)
            assert client.memory_usage(STREAM) <= 16 * 2**20
        gone = number_of_last(host) - read - kept
        assert 0 < gone < ENTRIES
        assert f", and {gone} unread ones were removed" in said
        with consuming(host) as output:
            until(lambda: output.read_bytes().count(b"\n") == 1 + kept, 120)  # Each is acknowledged on disk.
            assert lines(output)[0] == f"{gone} entries are missing"
            assert not any("missing" in line for line in lines(output)[1:])
    finally:
        host.stop()


def unacknowledged(host: Daemon) -> int:
    """Return the number of its pending entries."""
    with host.redis() as client:
        return int(client.xpending(STREAM, "billing")["pending"])
