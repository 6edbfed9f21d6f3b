"""The helper process as its parent sees it: asked, heard, ended. What it read before it ended is kept."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import anyio
import msgspec

COMMAND = [sys.executable, "-m", "canhazgpu.service.nvml_helper"]
LONGEST_ANSWER = 4 * 1024 * 1024
FAULTS = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL})
REAPED_IN = 0.5  # Seconds in which a process whose output has ended is gone.

_note = msgspec.json.Decoder(dict[str, Any]).decode

Card = str | int  # Its UUID, or its index where that is not known.


class Ended(Exception):
    """The helper has ended before it answered."""


class Helper:
    """One process with the driver's library in it, which keeps what it found when it began.

    It notes in a file in memory which card it turns to and what it read of it, so that a card at which the
    library crashes or hangs is known, and what was read before that too.
    """

    def __init__(self) -> None:
        """Start it. Raises OSError."""
        self._notes = os.memfd_create("canhazgpu-nvml")
        fcntl.fcntl(self._notes, fcntl.F_SETFL, os.O_APPEND)
        try:
            self._process = subprocess.Popen(
                [*COMMAND, str(self._notes)],
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
        self._heard = b""
        self._size = 0
        self.begun = self._asked_at = self._moved = time.monotonic()
        self.rows: list[dict[str, Any]] = []  # What it read for the question it answered last.
        self.asked = False  # Whether an answer is outstanding.
        self.answered = False  # Whether it has answered before: it has started, and opened every GPU.
        self.cards: dict[int, tuple[str, str]] = {}  # UUID and name by index, as it has them.

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def ask(self, skip: Iterable[Card]) -> None:
        """Have it read every GPU but these. Raises OSError when it has ended."""
        os.ftruncate(self._notes, 0)
        self._size = 0
        self._asked_at = self._moved = time.monotonic()
        self._input.write(msgspec.json.encode(list(skip)) + b"\n")
        self.asked = True

    def poll(self) -> dict[str, Any] | None:
        """Return the answer if it is there. Raises Ended, and ValueError for one that cannot be read."""
        try:
            piece = os.read(self._output, 65536)
        except BlockingIOError:
            return None
        if not piece:
            raise Ended
        self._heard += piece
        line, newline, rest = self._heard.partition(b"\n")
        if not newline:
            return None
        self._heard, self.asked, self.answered = rest, False, True
        answer = _note(line)
        self.rows = self._read_rows()
        self.cards = {
            row["index"]: (row["uuid"], row.get("name", "unknown")) for row in self.rows if "uuid" in row
        }
        return answer

    async def answer(self) -> dict[str, Any]:
        """Wait for the answer; raises as `poll` does."""
        while (found := self.poll()) is None:
            await anyio.wait_readable(self._output)
        return found

    def unfinished(self) -> tuple[int, list[dict[str, Any]]]:
        """Return how many GPUs it found, and what it read so far, for a question that is not answered."""
        count = next((_note(line)["count"] for line in self._lines() if line.startswith(b'{"count"')), 0)
        return count, self._read_rows()

    @property
    def at(self) -> Card | None:
        """The card it has turned to and not finished with."""
        lines = self._lines()
        last = _note(lines[-1]) if lines else {}
        return last.get("uuid", last["at"]) if "at" in last else None

    @property
    def asked_for(self) -> float:
        """How many seconds ago it was asked."""
        return time.monotonic() - self._asked_at

    @property
    def quiet(self) -> float:
        """For how many seconds it has got no further, as far as one has asked here."""
        size, now = os.fstat(self._notes).st_size, time.monotonic()
        if size != self._size:
            self._size, self._moved = size, now
        return now - self._moved

    @property
    def faulted(self) -> bool:
        """Whether a fault in it has ended it; nobody kills with such a signal."""
        with suppress(subprocess.TimeoutExpired):
            return -self._process.wait(REAPED_IN) in FAULTS
        return False

    def kill(self) -> None:
        """End it without waiting; it answers no more."""
        with suppress(OSError):
            self._input.close()
        if self._process.stdout and not self._process.stdout.closed:
            self._process.stdout.close()
            os.close(self._notes)
        self._process.kill()

    def is_gone(self) -> bool:
        """Tell whether nothing of it is left; one that hangs in the kernel cannot be ended."""
        return self._process.poll() is not None

    def _read_rows(self) -> list[dict[str, Any]]:
        return [_note(line)["gpu"] for line in self._lines() if line.startswith(b'{"gpu"')]

    def _lines(self) -> list[bytes]:
        size = os.fstat(self._notes).st_size
        if size > LONGEST_ANSWER:
            raise ValueError("the helper says too much")
        return os.pread(self._notes, size, 0).split(b"\n")[:-1]
