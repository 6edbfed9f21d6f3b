"""docs/examples/echo.mjs: a consumer in Node, on the conformance kit and on a real service."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.daemon import COMMAND, PATIENCE, Daemon, gpu, until, use
from support.node import MODULES, ROOT, need_node

pytestmark = pytest.mark.node
STREAM = "canhazgpu:{testhost}:violations"
USED = gpu(0, use(999_999, 1024, "bob", "python3"), memory_used_mb=45)
FREE = gpu(0, memory_used_mb=45)


@pytest.fixture
def consumer(tmp_path: Path) -> Path:
    """A copy of the example in a project that has its package."""
    need_node()
    (tmp_path / "node_modules").symlink_to(MODULES)
    return Path(shutil.copy(ROOT / "docs" / "examples" / "echo.mjs", tmp_path))


def test_it_conforms(consumer: Path) -> None:
    """Every type, after a kill, and with entries that were removed."""
    words = [*COMMAND, "events", "conformance", "--", "node", str(consumer)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "The consumer conforms."


@contextmanager
def running(consumer: Path, host: Daemon) -> Iterator[Path]:
    """Run it on the violations of a service; what it prints is in the file."""
    output = host.folder / "echo.out"
    variables = {
        "CONFORMANCE_REDIS": f"unix://{host.folder}/state/redis/redis.sock",
        "CONFORMANCE_STREAM": STREAM,
        "CONFORMANCE_GROUP": "billing",
    }
    with output.open("ab") as out:
        process = subprocess.Popen(
            ["node", str(consumer)], env={**os.environ, **variables}, stdout=out, stderr=subprocess.DEVNULL
        )
    try:
        yield output
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def kinds(output: Path) -> list[str]:
    """Return the types of the events that it has printed."""
    found: list[Any] = [json.loads(line) for line in output.read_text().splitlines()]
    return [one["type"].removeprefix("canhazgpu.violation.") for one in found]


def unacknowledged(host: Daemon) -> int:
    """Return the number of the group's pending entries."""
    with host.redis() as client:
        return int(client.xpending(STREAM, "billing")["pending"])


def test_it_reads_a_service(consumer: Path, host: Daemon) -> None:
    """It outlives a restart of Redis, and continues where it stopped."""
    host.place(USED)
    with running(consumer, host) as output:
        until(lambda: kinds(output) == ["opened"])
        until(lambda: not unacknowledged(host))
        host.stop()
        host.start()
        host.place(FREE)
        until(lambda: kinds(output) == ["opened", "closed"])
        until(lambda: not unacknowledged(host))
    host.place(USED)
    with running(consumer, host) as output:
        until(lambda: kinds(output) == ["opened", "closed", "opened"])
