"""Runs a configured program with input, bounded output and a timeout, and leaves no processes behind.

It gets its own session and process group. It is reaped only after the whole group was killed, because until
then the kernel does not reuse the group's number, and no other process can be hit.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence

import anyio
import msgspec
from anyio import to_thread

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
GRACE = 2.0  # Seconds from SIGTERM to SIGKILL, and from SIGKILL until giving up.
KEPT_FIRST, KEPT_LAST = 1024, 500  # Bytes of its output that are kept, from the start and from the end.
CHUNK = 65536  # The capacity of a pipe.
FASTEST = 16e6  # Maximum output rate in bytes per second, so that it does not keep the loop busy.


class ProgramResult(msgspec.Struct, frozen=True):
    """The result of a run. `status` is the exit status, negative for a signal, None for a timeout.

    `first` and `last` are the start and the end of its output.
    """

    status: int | None
    first: bytes
    last: bytes


async def run(
    command: Sequence[str],
    environment: dict[str, str],
    seconds: float,
    text: bytes = b"",
    *,
    with_errors: bool = True,
) -> ProgramResult:
    """Run `command` with `text` on its standard input; kill it if it takes longer than `seconds`.

    `with_errors`: standard error is part of the output. Raises OSError or ValueError if it cannot be started.
    When cancelled, it kills the program first.
    """
    program = await to_thread.run_sync(_Program, command, environment, with_errors)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(program.feed, text)
            tasks.start_soon(program.listen)
            in_time = await program.wait(seconds)
            tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            status = await program.end()
    return ProgramResult(status if in_time else None, bytes(program.first), bytes(program.last))


class _Program:
    """A running program. Waiting for its pipes can always be cancelled."""

    def __init__(self, command: Sequence[str], environment: dict[str, str], with_errors: bool) -> None:  # noqa: FBT001 - to_thread passes no names
        self.first, self.last = bytearray(), bytearray()
        self._process = subprocess.Popen(
            command,
            bufsize=0,
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if with_errors else subprocess.DEVNULL,
            env={"PATH": PATH, "LC_ALL": "C.UTF-8", **environment},
            start_new_session=True,
        )
        assert self._process.stdin and self._process.stdout  # noqa: S101, PT018 - pipes, as asked for
        self._input, self._output = self._process.stdin, self._process.stdout
        try:
            self._ended = os.pidfd_open(self._process.pid)
        except OSError:
            self._signal(signal.SIGKILL)
            self._process.wait()
            self._close()
            raise
        os.set_blocking(self._input.fileno(), False)
        os.set_blocking(self._output.fileno(), False)

    async def feed(self, text: bytes) -> None:
        left = memoryview(text)
        with contextlib.suppress(BrokenPipeError), self._input:
            while left:
                await anyio.wait_writable(self._input)
                with contextlib.suppress(BlockingIOError):
                    left = left[os.write(self._input.fileno(), left) :]

    async def listen(self) -> None:
        while True:
            await anyio.wait_readable(self._output)
            heard = self._read_output()
            if not heard:
                return
            await anyio.sleep(heard / FASTEST)

    def _read_output(self) -> int:
        """Read the available output; return the number of bytes, 0 at the end."""
        try:
            chunk = os.read(self._output.fileno(), CHUNK)
        except BlockingIOError:
            return 0
        self.first += chunk[: KEPT_FIRST - len(self.first)]
        self.last = (self.last + chunk)[-KEPT_LAST:]
        return len(chunk)

    async def wait(self, seconds: float) -> bool:
        """Wait for its end for at most `seconds`, without reaping it."""
        with anyio.move_on_after(seconds) as limit:
            await anyio.wait_readable(self._ended)
        return not limit.cancelled_caught

    async def end(self) -> int | None:
        """End it and its whole group, with SIGKILL if necessary; return its status, None if it survives."""
        if not self._has_ended():
            self._signal(signal.SIGTERM)
            await self.wait(GRACE)
        self._signal(signal.SIGKILL)
        await self.wait(GRACE)
        self._read_output()
        self._close()
        os.close(self._ended)
        return self._process.poll()

    def _has_ended(self) -> bool:
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _close(self) -> None:
        self._input.close()
        self._output.close()
