"""How soon GPUs are free after their run, how soon the first who waits has them, and what `run` costs."""

import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from bench.allocate import Link, spread
from bench.host import service

ROUNDS = 40
CANHAZGPU = str(Path(sys.executable).with_name("canhazgpu"))


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "CANHAZGPU_CONFIG": str(folder / "config.toml")}


def freed(folder: Path) -> list[float]:
    """Return the seconds from kill -9 of a run until its GPU is seen free."""
    link, times = Link(folder), []
    for _ in range(ROUNDS):
        run = subprocess.Popen(
            [CANHAZGPU, "run", "--gpu-ids", "0", "--", "sh", "-c", "echo; exec sleep 1000"],
            env=_environment(folder),
            stdout=subprocess.PIPE,
        )
        if run.stdout:
            run.stdout.readline()
        began = time.perf_counter()
        run.send_signal(signal.SIGKILL)
        while link.gpus()[0]["status"] != "AVAILABLE":
            time.sleep(0.001)
        times.append(time.perf_counter() - began)
        run.communicate()
    link.close()
    return times


def woken(folder: Path) -> list[float]:
    """Return the seconds from the request to release until the first who waits has the line that grants."""
    link, times = Link(folder), []
    for _ in range(ROUNDS):
        link.post("/v1/reservations/release", {})
        link.post("/v1/reservations", {"kind": "manual", "gpus": [0], "wait": True})
        moment: list[float] = []
        stands = threading.Event()

        def wait(moment: list[float] = moment, stands: threading.Event = stands) -> None:
            waiting = http.client.HTTPConnection("localhost", timeout=60)
            waiting.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            waiting.sock.connect(str(folder / "s"))
            waiting.request("POST", "/v1/reservations", '{"kind": "manual", "gpus": [0], "wait": true}')
            answer = waiting.getresponse()
            while (line := answer.readline()).strip() == b"" or json.loads(line)["state"] != "granted":
                stands.set()
            moment.append(time.perf_counter())
            answer.read()  # To its end: an answer of which some is left unread counts as unheard.
            waiting.close()

        waiter = threading.Thread(target=wait)
        waiter.start()
        stands.wait(10)
        time.sleep(0.05)
        began = time.perf_counter()
        link.post("/v1/reservations/release", {"gpus": [0]})
        waiter.join(20)
        times.append(moment[0] - began)
    link.close()
    return times


def cost(folder: Path) -> list[str]:
    """Return what `run` adds to a command, against the command and against an empty Python."""
    commands = {
        "true": ["true"],
        "python -c pass": [sys.executable, "-c", "pass"],
        "canhazgpu run --gpus 1 -- true": [CANHAZGPU, "run", "--gpus", "1", "--", "true"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, words in commands.items():
            began = time.perf_counter()
            subprocess.run(words, env=_environment(folder), check=True)
            times[name].append(time.perf_counter() - began)
    middle = {name: statistics.median(values) for name, values in times.items()}
    whole = middle.pop("canhazgpu run --gpus 1 -- true")
    parts = [f"{name} {value * 1000:.1f} ms (ratio {whole / value:.1f})" for name, value in middle.items()]
    return [f"canhazgpu run --gpus 1 -- true: {whole * 1000:.1f} ms; " + ", ".join(parts)]


def measure() -> Iterator[str]:
    """Yield all of it, as it comes."""
    with service() as (folder, _):
        yield f"kill -9 of a run until its GPU is free: {spread(freed(folder)).partition(', ')[2]}"
        yield f"release until the first who waits has it: {spread(woken(folder)).partition(', ')[2]}"
        yield from cost(folder)
