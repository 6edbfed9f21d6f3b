"""A real service with simulated GPUs in its own process, and commands against it."""

import json
import os
import signal
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest
from redis import Redis
from support import forks
from support.eventually import until as until  # noqa: PLC0414 - tests take it from here
from support.forks import COMMAND as COMMAND  # noqa: PLC0414 - the same
from support.people import Person
from support.published_events import wrong_events

from canhazgpu.cli.status_lines import line
from canhazgpu.client import Client, Refused, Unreachable

PATIENCE = 120.0  # Seconds until a command, or the end of a service, hangs.
SERVING = b'"event": "serving"'  # What a service writes to its log after its first scan.
PREFERRED = forks.PREFERRED if os.geteuid() == 0 else []  # As its unit has it.
CONFIG = """\
host = "{host}"
socket = "{folder}/s"
state_dir = "{folder}/state"
[gpus]
provider = "simulated"
scenario = "{folder}/gpus.toml"
scan_interval = "{scan}"
[violations]
confirm = "{confirm}"
[notices]
group_wait = "{group_wait}"
group_interval = "200ms"
resolve_hold = "{hold}"
[notify.log]
path = "{folder}/violations.log"
"""


def gpu(index: int, *processes: str, **facts: Any) -> str:
    """Return one GPU of a scenario; each process is a line of TOML assignments joined by `;`."""
    lines = [
        "[[gpus]]",
        f"index = {index}",
        *(f"{name} = {json.dumps(value)}" for name, value in facts.items()),
    ]
    for process in processes:
        lines += ["[[gpus.processes]]", *process.split(";")]
    return "\n".join(lines) + "\n"


def use(pid: int, memory_mb: int, user: str = "", name: str = "") -> str:
    """Return one process of a scenario."""
    parts = [f"pid = {pid}", f"memory_mb = {memory_mb}"]
    parts += [f"user = {json.dumps(user)}"] if user else []
    parts += [f"name = {json.dumps(name)}"] if name else []
    return ";".join(parts)


class Daemon:
    """One host: its settings, its scenario, its service."""

    def __init__(self, folder: Path, more: str = "", **timing: str) -> None:
        """Write the settings; `more` is appended, `timing` sets scan, confirm, group_wait, hold."""
        self.folder = folder
        self.log = folder / "output.log"
        self.process: subprocess.Popen[bytes] | None = None
        values = {
            "host": "testhost",
            "scan": "200ms",
            "confirm": "300ms",
            "group_wait": "200ms",
            "hold": "200ms",
            **timing,
        }
        (folder / "config.toml").write_text(CONFIG.format(folder=folder, **values) + more)
        self.place(gpu(0, memory_used_mb=45))

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which commands find this service."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CANHAZGPU_")}
        return {**kept, "CANHAZGPU_CONFIG": str(self.folder / "config.toml"), "COLUMNS": "80"}

    def place(self, *gpus: str) -> None:
        """Put a new scenario in place at once."""
        new = self.folder / "gpus.new"
        new.write_text("\n".join(gpus))
        new.rename(self.folder / "gpus.toml")

    def start(self, *words: str, wait: bool = True) -> Self:
        """Start the service; return when it answers, and has scanned once."""
        before = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*PREFERRED, *self.serve, "serve", *words],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        if wait:
            try:
                until(lambda: self.answers() and SERVING in self.log.read_bytes()[before:], 60)
            except AssertionError as error:
                self.process.kill()  # Whoever asked for it has nothing to stop.
                self.process.wait()
                raise AssertionError(f"{error}: {self.log.read_text()}") from None
        return self

    @property
    def serve(self) -> list[str]:
        """The command that starts it."""
        return COMMAND

    def _socket(self) -> str:
        """Return where its settings say that it listens: a test may have changed them."""
        return str(tomllib.loads((self.folder / "config.toml").read_text())["socket"])

    def answers(self) -> bool:
        """Tell whether the service answers; fail if it has exited."""
        assert self.process is None or self.process.poll() is None, self.log.read_text()
        return self._gpus() is not None

    def run(
        self, *words: str, person: Person | None = None, **options: Any
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command against it, as a person where one is named."""
        return subprocess.run(
            person.command(*COMMAND, *words) if person else [*COMMAND, *words],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            **{"timeout": PATIENCE, **options},
        )

    def status(self) -> str:
        """Return the lines that `canhazgpu status` prints, without a process for it, or nothing."""
        return "".join(line(gpu) + "\n" for gpu in self._gpus() or ())

    def _gpus(self) -> list[dict[str, Any]] | None:
        try:
            return Client(self._socket()).status()
        except (Unreachable, Refused):
            return None

    def pass_scans(self, count: int = 3) -> None:
        """Wait until so many scans have begun and ended since now."""
        seen: set[str] = set()

        def are_over() -> bool:
            seen.update(row["scanned_at"] for row in (self._gpus() or [])[:1])
            return len(seen) > count + 1

        until(are_over)

    def facts(self) -> list[dict[str, Any]]:
        """Return the facts in the audit log; who was told of them is there too."""
        log = self.folder / "violations.log"
        text = log.read_text() if log.exists() else ""
        whole = text.rpartition("\n")[0]  # Of the last line, the beginning may be there first.
        lines = [json.loads(line) for line in whole.splitlines()]
        return [line for line in lines if line["type"].startswith("canhazgpu.violation.")]

    def redis(self) -> Any:
        """Connect to its Redis."""
        return Redis(unix_socket_path=str(self.folder / "state" / "redis" / "redis.sock"))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop its process while the block lasts: it notices nothing of what is done until all is done."""
        assert self.process
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def stop(self, number: int = signal.SIGTERM) -> int | None:
        """End it; return its exit status."""
        if self.process is None:
            return None
        stops = number == signal.SIGTERM
        wrong = wrong_events(self.folder / "state" / "redis" / "redis.sock") if stops else []
        self.process.send_signal(number)
        status = self.process.wait(PATIENCE)
        self.process = None
        assert not wrong, "\n".join(wrong)
        return status


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: a Unix socket's has at most 107 bytes. Everybody may look into it."""
    with tempfile.TemporaryDirectory(prefix="chg-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def host(folder: Path) -> Iterator[Daemon]:
    """A service on one idle GPU, running."""
    daemon = Daemon(folder).start()
    yield daemon
    daemon.stop()


@contextmanager
def serving(gpus: int) -> Iterator[Daemon]:
    """Run a service on idle GPUs, for tests that leave it as it was."""
    with tempfile.TemporaryDirectory(prefix="chg-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        daemon = Daemon(Path(name))
        daemon.place(*(gpu(index, memory_used_mb=45) for index in range(gpus)))
        daemon.start()
        try:
            until(lambda: daemon.status().count("AVAILABLE") == gpus)
            yield daemon
        finally:
            daemon.stop()


@pytest.fixture(scope="module")
def lasting_host() -> Iterator[Daemon]:
    """A service on four idle GPUs for all tests of a module that leave it as it was."""
    with serving(4) as daemon:
        yield daemon
