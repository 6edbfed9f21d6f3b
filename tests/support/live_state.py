"""Reservations and a live run that must survive whatever happens to the state."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.daemon import COMMAND, Daemon, gpu, until


def four_gpus(folder: Path) -> Daemon:
    """Start a service on four idle GPUs, GPU-0 to GPU-3."""
    daemon = Daemon(folder)
    daemon.place(*(gpu(index, uuid=f"GPU-{index}") for index in range(4)))
    daemon.start()
    until(lambda: "GPU 3: AVAILABLE" in daemon.status())
    return daemon


@contextmanager
def running(host: Daemon) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a command on GPU 0."""
    words = [*COMMAND, "run", "--gpu-ids", "0", "--", "sleep", "600"]
    process = subprocess.Popen(words, env=host.environment, stderr=subprocess.DEVNULL)
    until(lambda: "GPU 0: IN USE by root" in host.status())
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def holds(host: Daemon) -> dict[int, str]:
    """Return the reservations by GPU."""
    rows = json.loads(host.run("status", "--json").stdout)
    return {row["gpu_id"]: row["reservation"]["id"] for row in rows if row["reservation"]}


def journaled_requests(host: Daemon) -> int:
    """Return how many waiting requests the journal has: they are in the queue a moment earlier."""
    lines = (host.folder / "state" / "journal").read_text().rpartition("\n")[0].splitlines()
    return len(json.loads(lines[-1].partition(" ")[2]).get("requests", {}))


def events(host: Daemon, kind: str) -> list[dict[str, Any]]:
    """Return the events of a type."""
    lines = host.run("events", "--type", kind, "--json").stdout.splitlines()
    return [json.loads(line)["data"] for line in lines]


def take(host: Daemon, *words: str) -> None:
    """Make a manual reservation."""
    done = host.run("reserve", *words)
    assert done.returncode == 0, done.stderr
