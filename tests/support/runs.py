"""Runs for tests: real commands under `canhazgpu run`."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress

import pytest
from support.daemon import COMMAND, Daemon, gpu, until
from support.people import Person

SAY = 'echo "$$ $CUDA_VISIBLE_DEVICES"; '


class Run:
    """A running `canhazgpu run`."""

    def __init__(self, host: Daemon, script: str, *options: str, person: Person | None = None) -> None:
        words = [*COMMAND, "run", *options, "--", "sh", "-c", script]
        self.process = subprocess.Popen(
            person.command(*words) if person else words,
            env=host.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self.gpus = self.line().split()[1]

    def line(self) -> str:
        """The next line of its output."""
        assert self.process.stdout
        return self.process.stdout.readline().decode().strip()

    def end(self, number: int = signal.SIGKILL) -> None:
        """End its first process."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()


@pytest.fixture
def runs(host: Daemon) -> Iterator[list[Run]]:
    """Two idle GPUs; the runs that are put into the list end with the test."""
    host.place(gpu(0), gpu(1))
    until(lambda: "GPU 1: AVAILABLE" in host.status())
    made: list[Run] = []
    yield made
    for run in made:
        with suppress(ProcessLookupError):
            os.killpg(run.process.pid, signal.SIGKILL)
        run.end()
