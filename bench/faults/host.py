"""A real daemon with its own Redis in a folder of its own, and what users ask of it."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from redis import Redis

from bench.truth.real.people import Person

COMMAND = [sys.executable, "-m", "canhazgpu.cli.main"]
PREFERRED = ["nice", "-n", "-10"]  # As its unit has it.
RESTORED = "Redis had lost its state"  # What `status` says for an hour after that.
PATIENCE = 75.0  # Seconds that a command may take; the cell says how long it should.
CONFIG = """\
host = "faults"
socket = "{folder}/s"
state_dir = "{folder}/disk/state"
[gpus]
provider = "nvml"
scan_interval = "300ms"
[violations]
confirm = "400ms"
[notices]
group_wait = "200ms"
group_interval = "200ms"
resolve_hold = "200ms"
steps = [{{ channels = ["log", "email"], to = ["offender"] }}]
[notify.wall]
enabled = false
[notify.log]
path = "{folder}/disk/violations.log"
[notify.email]
enabled = true
host = "127.0.0.1"
port = {port}
user_address = "{{user}}@example.com"
"""


@dataclass(frozen=True)
class Done:
    """What a command said."""

    status: int
    out: str
    error: str
    seconds: float


class Host:
    """One daemon, with its workers in it or, where they are `split` off, in a process of their own."""

    def __init__(self, folder: Path, port: int, environment: Mapping[str, str], *, split: bool) -> None:
        """Write its settings; nothing runs yet."""
        self.folder = folder
        self.disk = folder / "disk"
        self.audit_log = self.disk / "violations.log"
        self.output = folder / "output.log"
        self.restarts = 0  # How often it was started because it had ended by itself.
        self.daemon: subprocess.Popen[bytes] | None = None
        self.worker: subprocess.Popen[bytes] | None = None
        self._split = split
        self.servers: dict[str, str] = {}
        (folder / "config.toml").write_text(CONFIG.format(folder=folder, port=port))
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CANHAZGPU_")}
        self.environment = {
            **kept,
            "CANHAZGPU_CONFIG": str(folder / "config.toml"),
            "COLUMNS": "80",
            **environment,
        }

    def start(self) -> None:
        """Start the daemon, and the workers; nothing answers yet."""
        self.daemon = self._serve("serve", *(["--no-workers"] if self._split else []))
        if self._split:
            self.start_worker()

    def start_worker(self) -> None:
        """Start the workers that are a process of their own."""
        self.worker = self._serve("worker")

    def _serve(self, *words: str) -> "subprocess.Popen[bytes]":
        with self.output.open("ab") as log:
            return subprocess.Popen(
                [*PREFERRED, *COMMAND, *words],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def revive(self) -> None:
        """Start what has ended by itself, as systemd does."""
        if self.daemon and self.daemon.poll() is not None:
            self.restarts += 1
            self.daemon = self._serve("serve", *(["--no-workers"] if self._split else []))
        if self.worker and self.worker.poll() is not None:
            self.restarts += 1
            self.start_worker()

    def end(self, number: int = signal.SIGTERM) -> None:
        """End the daemon with a signal, and wait for it and its Redis."""
        for process in (self.worker, self.daemon):
            if process and process.poll() is None:
                redis = self.redis_process() if process is self.daemon else None
                process.send_signal(number)
                try:
                    process.wait(PATIENCE)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                if redis:
                    with suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
                        redis.wait(10)
        self.daemon = self.worker = None

    def kill_daemon(self) -> None:
        """Kill the daemon; wait until its Redis has noticed, too."""
        redis = self.redis_process()
        if self.daemon:
            self.daemon.kill()
            self.daemon.wait()
        if redis:
            with suppress(psutil.NoSuchProcess):
                redis.wait(20)

    def redis_process(self) -> psutil.Process | None:
        """Return the process of its Redis."""
        with suppress(psutil.NoSuchProcess):
            for one in psutil.Process(self.daemon.pid).children(recursive=True) if self.daemon else []:
                if one.name().endswith("-server"):
                    return one
        return None

    def redis(self) -> Any:
        """Connect to its Redis, as somebody does who should not."""
        return Redis(unix_socket_path=str(self.disk / "state" / "redis" / "redis.sock"), socket_timeout=20)

    def command(self, *words: str, person: Person | None = None) -> Done:
        """Run a command, as a person where one is named."""
        began = time.monotonic()
        process = self.begin(*words, person=person)
        try:
            out, error = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            out, error = process.communicate()
            error += f"(killed after {PATIENCE:.0f} s)"
        return Done(process.returncode, out, error, time.monotonic() - began)

    def begin(self, *words: str, person: Person | None = None) -> "subprocess.Popen[str]":
        """Start a command."""
        return subprocess.Popen(
            person.words(*COMMAND, *words) if person else [*COMMAND, *words],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def rows(self) -> list[dict[str, Any]] | None:
        """Return what `status` says of all cards, None while it has no fresh picture."""
        done = self.command("status", "--json")
        if done.status or (done.error and RESTORED not in done.error):
            return None
        found: list[dict[str, Any]] = json.loads(done.out)
        stale = any(row["stale_s"] is not None or row["status"] in ("ERROR", "UNKNOWN") for row in found)
        return None if stale or not found else found

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Send a request on a connection of its own. Raises OSError and HTTPException."""
        connection = http.client.HTTPConnection("localhost", timeout=PATIENCE)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(PATIENCE)
        try:
            connection.sock.connect(str(self.folder / "s"))
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def ask_version(self) -> None:
        """Note which server its Redis is."""
        with self.redis() as redis:
            said = redis.info("server")
        family = "valkey" if "valkey_version" in said else "redis"
        self.servers[family] = str(said[f"{family}_version"])

    def facts(self) -> list[dict[str, Any]]:
        """Return the lines of the audit log that are about violations."""
        lines = self.audit_log.read_text().splitlines() if self.audit_log.exists() else []
        rows = []
        for line in lines:
            with suppress(ValueError):
                rows.append(json.loads(line))
        return [row for row in rows if row["type"].startswith("canhazgpu.violation.")]
