"""The program of `events --exec`: the shell runs it once for each event, which is its standard input."""

import json
import os
import signal
import subprocess
from contextlib import suppress
from typing import Any

SHELL = "/bin/sh"
TRY_LATER = 75  # EX_TEMPFAIL of sysexits.h


class ProgramFailed(Exception):
    """The program did not handle the event; the message says how it ended."""


class Program:
    """A command line for the shell. No part of an event is ever in it, or in the environment."""

    def __init__(self, command: str) -> None:
        """Store the command line."""
        self._words = [SHELL, "-c", command]
        self._running: subprocess.Popen[bytes] | None = None

    def run(self, event: dict[str, Any]) -> None:
        """Run it for an event, in a session of its own, so that Ctrl-C does not interrupt it.

        Raises ProgramFailed, and TryAgain if it cannot handle the event now.
        """
        from canhazgpu.events.consumer.handling import TryAgain  # noqa: PLC0415 - heavy

        line = json.dumps(event).encode() + b"\n"
        with subprocess.Popen(self._words, stdin=subprocess.PIPE, start_new_session=True) as process:
            self._running = process
            try:
                process.communicate(line)
            finally:
                self._running = None
        status = process.returncode
        if status == TRY_LATER:
            raise TryAgain(f"the program exited with status {status}")
        if status:
            how = f"was ended by signal {-status}" if status < 0 else f"exited with status {status}"
            raise ProgramFailed(f"the program {how}")

    def end(self) -> None:
        """End it, and what it has started, if it runs."""
        process = self._running
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
