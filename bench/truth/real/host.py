"""The real daemon with its Redis, and what its driver says: a scenario, or a library in NVML's place."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any

import psutil
from redis import Redis

from bench.truth.lab import THRESHOLD_MB, TOTAL_MB
from canhazgpu.client.connection import Client, Refused, Unreachable

ROOT = Path(__file__).parents[3]
LIBRARY = ROOT / "tests" / "fake_nvml" / "nvml.c"
INTERVAL, CONFIRM, IDLE_AFTER, IDLE_RELEASE = 0.2, 1.0, 2.0, 1.0
PREFERRED = ["nice", "-n", "-10"]  # As its unit has it.
HANGS = re.compile(r"does not answer|another GPU hangs")  # Why a card that hung is left alone for a while.
COMMAND = [sys.executable, "-m", "canhazgpu.cli.main"]
PATIENCE = 60.0
IDLE_MB = 3
CONFIG = f"""\
host = "truth"
socket = "{{folder}}/s"
state_dir = "{{folder}}/state"
[gpus]
provider = "{{provider}}"
scenario = "{{scenario}}"
scan_interval = "{INTERVAL * 1000:.0f}ms"
[memory]
threshold_mb = {THRESHOLD_MB}
[violations]
confirm = "{CONFIRM * 1000:.0f}ms"
exempt_processes = ["tail"]
[notices]
idle_after = "{IDLE_AFTER:.0f}s"
idle_release = "{IDLE_RELEASE:.0f}s"
"""
Use = Mapping[int, int | None]  # MiB by pid; None: the driver does not tell.


class Driver:
    """What the driver says, in a file that is replaced whole."""

    def __init__(self, folder: Path, provider: str, uuids: Sequence[str]) -> None:
        """Say it to the simulated provider, or to NVML's."""
        self.provider = provider
        self._uuids = uuids
        self.file = folder / "cards"
        self.environment: dict[str, str] = {}
        if provider == "nvml":
            library = folder / "lib" / "libnvidia-ml.so.1"
            library.parent.mkdir()
            subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, LIBRARY], check=True)
            self.environment = {"LD_LIBRARY_PATH": str(library.parent), "FAKE_NVML": str(self.file)}

    def say(self, uses: Sequence[Use], states: Sequence[str], *, stalled: bool) -> None:
        """Say who uses which card, and what is wrong with it."""
        write = self._nvml if self.provider == "nvml" else self._scenario
        cards = zip(self._uuids, uses, states, strict=True)
        new = self.file.with_suffix(".new")
        new.write_text("".join(write(index, *card, stalled) for index, card in enumerate(cards)))
        new.rename(self.file)

    @staticmethod
    def _scenario(index: int, uuid: str, use: Use, state: str, stalled: bool) -> str:  # noqa: FBT001
        lines = ["[[gpus]]", f"index = {index}", f'uuid = "{uuid}"', f"memory_used_mb = {IDLE_MB}"]
        lines += [f'error = "{"GPU_IS_LOST" if state == "error" else "UNKNOWN"}"'] if state != "ok" else []
        lines += ['hang = "5s"'] if stalled else []
        for pid, memory in use.items():
            lines += ["[[gpus.processes]]", f"pid = {pid}"]
            lines += [f"memory_mb = {memory}"] if memory is not None else []
        return "\n".join([*lines, ""])

    @staticmethod
    def _nvml(index: int, uuid: str, use: Use, state: str, stalled: bool) -> str:  # noqa: FBT001
        del index
        used = IDLE_MB + sum(memory or 0 for memory in use.values())
        lines = [f"gpu {uuid} H100 {TOTAL_MB} {used} 500"]
        lines += ["handle 15"] if state == "error" else ["memory 999"] if state == "unknown" else []
        lines += ["hang 5"] if stalled else []
        lines += [f"proc c {pid} {-1 if memory is None else memory}" for pid, memory in use.items()]
        return "\n".join([*lines, ""])


class Host:
    """One daemon in a folder of its own."""

    def __init__(self, folder: Path, provider: str, uuids: Sequence[str]) -> None:
        """Write its settings; nothing runs yet."""
        self.folder = folder
        self.socket = str(folder / "s")
        self.driver = Driver(folder, provider, uuids)
        scenario = self.driver.file if provider == "simulated" else ""
        text = CONFIG.format(folder=folder, provider=provider, scenario=scenario)
        (folder / "config.toml").write_text(text)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CANHAZGPU_")}
        self.environment = {**kept, "CANHAZGPU_CONFIG": str(folder / "config.toml")}
        self._process: subprocess.Popen[bytes] | None = None
        self.log = folder / "output.log"

    def start(self) -> None:
        """Start the daemon; it does not answer yet."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*PREFERRED, *COMMAND, "serve", "--no-workers"],
                env={**self.environment, **self.driver.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def runs(self) -> bool:
        """Whether the daemon's process is there."""
        return self._process is not None and self._process.poll() is None

    def status(self, *, fresh: bool) -> list[dict[str, Any]] | None:
        """Return what it says of all cards, None when it does not answer."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.connect(self.socket)
            return Client(self.socket).status(fresh=fresh)
        except (OSError, HTTPException, Refused, Unreachable):
            return None

    def looked(self) -> list[dict[str, Any]]:
        """Return what it says of all cards; nothing if it has not looked at them since this call."""
        asked = datetime.now(UTC)
        found = self.status(fresh=True) or []
        scanned = (gpu["scanned_at"] for gpu in found)
        return found if all(at and datetime.fromisoformat(at) > asked for at in scanned) else []

    def wait(self) -> None:
        """Wait until it sees. Raises RuntimeError."""
        deadline = time.monotonic() + PATIENCE
        while not self.looked():
            if not self.runs or time.monotonic() > deadline:
                raise RuntimeError(f"the daemon does not answer: {self.log.read_text()[-2000:]}")
            time.sleep(0.05)

    def signal(self, number: int) -> None:
        """Send the daemon a signal; wait for its end where it is to end."""
        if self._process and self.runs:
            self._process.send_signal(number)
            if number in (signal.SIGKILL, signal.SIGTERM):
                self._process.wait(PATIENCE)

    def kill_redis(self) -> bool:
        """Kill its Redis; tell whether there was one."""
        if self._process is None:
            return False
        with suppress(psutil.NoSuchProcess):
            for one in psutil.Process(self._process.pid).children(recursive=True):
                if "redis" in one.name():
                    one.kill()
                    return True
        return False

    def events(self) -> list[tuple[int, str, dict[str, Any]]]:
        """Return all events so far: when, of what type, their data."""
        with Redis(unix_socket_path=str(self.folder / "state" / "redis" / "redis.sock")) as redis:
            rows: Any = redis.xrange("canhazgpu:{truth}:events")
        return [
            (int(key.partition(b"-")[0]), fields[b"type"].decode(), json.loads(fields[b"data"]))
            for key, fields in rows
        ]


def has_compiler() -> bool:
    """Tell whether the library in the place of NVML's can be made."""
    return LIBRARY.exists() and shutil.which("gcc") is not None
