"""Controls the helper process: requests, answers, and termination. Readings from before its end are kept."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import anyio
import msgspec

COMMAND = [sys.executable, "-m", "canhazgpu.service.providers.nvml_helper"]
LONGEST_ANSWER = 4 * 1024 * 1024
FAULTS = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL})
REAPED_IN = 0.5  # Seconds for a process to exit after its output has ended.

_note = msgspec.json.Decoder(dict[str, Any]).decode

Card = str | int  # Its UUID, or its index if that is not known.


class Ended(Exception):
    """The helper exited before it answered."""


class Helper:
    """A helper process with the driver's library. NVML keeps the list of GPUs from its initialisation.

    The helper writes the card it is working on and its readings to a file in memory. If the library crashes
    or hangs, the parent knows the card, and has the readings from before.
    """

    def __init__(self, command: Sequence[str] = ()) -> None:
        """Start it; `command` is another helper. Raises OSError."""
        self._notes = os.memfd_create("canhazgpu-nvml")
        fcntl.fcntl(self._notes, fcntl.F_SETFL, os.O_APPEND)
        try:
            self._process = subprocess.Popen(
                [*(command or COMMAND), str(self._notes)],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=[self._notes],
                start_new_session=True,
            )
        except OSError:
            os.close(self._notes)
            raise
        if self._process.stdin is None or self._process.stdout is None:
            raise OSError("the helper has no pipes")
        self._input, self._output = self._process.stdin, self._process.stdout.fileno()
        os.set_blocking(self._output, False)
        self._last_progress = b""
        self._size = 0
        self.begun = self._asked_at = self._moved = time.monotonic()
        self.rows: list[dict[str, Any]] = []  # The last readings; the same list until one of them changes.
        self.asked = False  # Whether a request is outstanding.
        self.answered = False  # Whether it has answered before, and has therefore opened all GPUs.
        self.cards: dict[int, tuple[str, str]] = {}  # UUID and name by index, as it reports them.

    @property
    def pid(self) -> int:
        """The pid of the helper."""
        return self._process.pid

    def ask(self, skip: Iterable[Card]) -> None:
        """Request readings of all GPUs except these. Raises OSError if it has exited."""
        os.ftruncate(self._notes, 0)
        self._size = 0
        self._asked_at = self._moved = time.monotonic()
        self._input.write(msgspec.json.encode(list(skip)) + b"\n")
        self.asked = True

    def poll(self) -> dict[str, Any] | None:
        """Return the answer if it has arrived. Raises Ended, and ValueError for an invalid one."""
        try:
            piece = os.read(self._output, 65536)
        except BlockingIOError:
            return None
        if not piece:
            raise Ended
        self._last_progress += piece
        line, newline, rest = self._last_progress.partition(b"\n")
        if not newline:
            return None
        self._last_progress, self.asked, self.answered = rest, False, True
        answer = _note(line)
        if not answer.get("same"):
            self.rows = self._read_rows()
            self.cards = {
                row["index"]: (row["uuid"], row.get("name", "unknown")) for row in self.rows if "uuid" in row
            }
        return answer

    async def answer(self) -> dict[str, Any]:
        """Wait for the answer; raises the same as `poll`."""
        while (found := self.poll()) is None:
            await anyio.wait_readable(self._output)
        return found

    def unfinished(self) -> tuple[int, list[dict[str, Any]]]:
        """Return the number of GPUs and the readings so far of an outstanding request."""
        count = next((_note(line)["count"] for line in self._lines() if line.startswith(b'{"count"')), 0)
        return count, self._read_rows()

    @property
    def at(self) -> Card | None:
        """The card it is working on."""
        lines = self._lines()
        last = _note(lines[-1]) if lines else {}
        return last.get("uuid", last["at"]) if "at" in last else None

    @property
    def seconds_since_request(self) -> float:
        """The seconds since the request."""
        return time.monotonic() - self._asked_at

    @property
    def seconds_without_progress(self) -> float:
        """The seconds without progress, as observed by calls of this property."""
        size, now = os.fstat(self._notes).st_size, time.monotonic()
        if size != self._size:
            self._size, self._moved = size, now
        return now - self._moved

    @property
    def has_crashed(self) -> bool:
        """Whether it was ended by a signal that means a crash."""
        with suppress(subprocess.TimeoutExpired):
            return -self._process.wait(REAPED_IN) in FAULTS
        return False

    def kill(self) -> None:
        """Kill it without waiting."""
        with suppress(OSError):
            self._input.close()
        if self._process.stdout and not self._process.stdout.closed:
            self._process.stdout.close()
            os.close(self._notes)
        self._process.kill()

    def has_exited(self) -> bool:
        """Return whether it has exited; a process that hangs in the kernel cannot be killed."""
        return self._process.poll() is not None

    def _read_rows(self) -> list[dict[str, Any]]:
        return [_note(line)["gpu"] for line in self._lines() if line.startswith(b'{"gpu"')]

    def _lines(self) -> list[bytes]:
        size = os.fstat(self._notes).st_size
        if size > LONGEST_ANSWER:
            raise ValueError("the output of the helper is too long")
        return os.pread(self._notes, size, 0).split(b"\n")[:-1]
