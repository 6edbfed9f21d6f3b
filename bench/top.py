"""`canhazgpu top` at its default refresh, on a terminal of 160 columns: its share of a processor."""

import fcntl
import os
import pty
import random
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

import psutil

from bench.host import GPU, service
from bench.idle import cpu, processes

SECONDS = 60
SETTLE = 5
SIZE = struct.pack("HHHH", 50, 160, 0, 0)


def measure() -> list[str]:
    """Return a line with its share of one core while every value changes at each refresh."""
    return [_measure(gpus) for gpus in (8, 16)]


def _measure(gpus: int) -> str:
    with service(gpus=gpus) as (folder, _), _shown(folder) as process:
        time.sleep(SETTLE)
        tree, began = processes(process.pid), time.monotonic()
        start = cpu(tree)
        while (took := time.monotonic() - began) < SECONDS:
            _change(folder, gpus)
            time.sleep(1)
        share = (cpu(tree) - start) / took * 100
        memory = psutil.Process(process.pid).memory_info().rss / 1e6
        return (
            f"{gpus} GPUs that change every second, 2 s refresh: {share:.2f} % of a core over {took:.0f} s;"
            f" {start:.2f} s of a core to start; {memory:.0f} MB"
        )


def _change(folder: Path, gpus: int) -> None:
    parts = [
        GPU.format(index=index).replace("= 45\n", f"= {random.randrange(80_000)}\n")  # noqa: S311 - any number
        + f"utilization_percent = {random.randrange(101)}\ntemperature_c = {random.randrange(30, 90)}\n"  # noqa: S311
        for index in range(gpus)
    ]
    (folder / "gpus.new").write_text("".join(parts))
    (folder / "gpus.new").rename(folder / "gpus.toml")


@contextmanager
def _shown(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run it on a terminal whose output is read."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, SIZE)
    words = [sys.executable, "-m", "canhazgpu.cli.main", "--config", str(folder / "config.toml"), "top"]
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        words, env=environment | {"TERM": "xterm-256color"}, stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    Thread(target=_drain, args=[master], daemon=True).start()
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


def _drain(master: int) -> None:
    with suppress(OSError):  # EIO: it has ended.
        while os.read(master, 65536):
            pass
    os.close(master)
