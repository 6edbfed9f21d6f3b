"""The embedded Redis: durable, on a Unix socket in the state directory, and restarted if it dies.

Two servers never use the same directory: the server inherits the descriptor of a lock, so that the kernel
holds the lock as long as one of the processes lives.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import structlog
from anyio.abc import Process, TaskStatus

from canhazgpu.events.linux.process_state import halt_reason, listener_pid
from canhazgpu.events.redis_client.store import SAY_AGAIN, Store
from canhazgpu.service.lock import AlreadyRunning, Lock
from canhazgpu.service.redis_server import deleted_files, launcher
from canhazgpu.service.redis_server.aof_repair import (
    REPAIRS,
    RepairFailed,
    Restorable,
    check_command,
    repair_or_move_aside,
)
from canhazgpu.service.redis_server.server_log import cut_at, is_broken, last_words
from canhazgpu.service.redis_server.server_process import answers, end
from canhazgpu.service.redis_server.server_program import EmbeddedFailed, Server, find_server, record

LOCK_PATIENCE = 10.0  # Seconds to wait for a previous server to exit.
START_PATIENCE = 30.0  # Seconds: a long append-only file takes a while to load.
RESTART_FIRST, RESTART_LAST = 0.05, 1.0
STEADY = 10.0  # A server that ran this long did not fail at its start.
FULL = 1 << 20  # Bytes that are free on a disk that is full: what was cut short is taken back.
PROTECTED = (7, 0)  # Since this version a server has to be started with the permission to change its folder.
LONGEST = 200_000  # Bytes of a server's log that are looked at.
_NUMBER = re.compile(r"\d+")


class EmbeddedRedis:
    """A Redis in `state_dir/redis` that loses no acknowledged write (`appendfsync always`)."""

    def __init__(
        self,
        state_dir: Path,
        restorable: Restorable = lambda: False,
        pause: Callable[[], Awaitable[None]] = deleted_files.short_pause,
    ) -> None:
        """Set the paths; nothing is created yet. Data are moved aside only if `restorable` returns true.

        `pause` returns when the server's files are to be looked at again.
        """
        self._restorable = restorable
        self._pause = pause
        self.folder = state_dir / "redis"
        self.journal = state_dir / "journal"
        self.socket = self.folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self.output = self.folder / "redis.log"
        self.pid: int | None = None
        self.last_words = ""  # Of the server that died last,
        self.died: float | None = None  # and when that was, on the monotonic clock.
        self.obstacle: str | None = None  # Why the server cannot be started now, if so.
        self.server: Server | None = None  # The one that runs, or ran last.
        self.damage: str | None = None  # What was wrong with its file at the last start, if anything.
        self._logged: dict[str, float] = {}  # When it was last said, on the monotonic clock.
        self._said_from = 0  # Where in its log the words of the present server begin.

    async def run(self, *, task_status: TaskStatus[str] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled, and restart the server if it dies. Started, with its URL, once it answers.

        Raises EmbeddedFailed if the first start fails.
        """
        self._make_folder()
        lock = await self._lock()
        try:
            await self._run(lock, task_status)
        finally:
            lock.release()

    async def _run(self, lock: Lock, task_status: TaskStatus[str]) -> None:
        started, repairs = False, 0
        pause = RESTART_FIRST
        while True:
            began = time.monotonic()
            try:
                self._keep_place(lock)
                server = await anyio.to_thread.run_sync(find_server, self.folder)
            except EmbeddedFailed as failed:  # Its program or its folder was replaced or removed meanwhile.
                if not started:
                    raise
                self.obstacle = str(failed)
                self._log_event("redis_cannot_run", reason=self.obstacle)
                await anyio.sleep(RESTART_LAST)
                continue
            self.obstacle = None
            try:
                process = await self._start(server, lock)
            except OSError as error:  # The folder became read-only, or there are no descriptors left.
                if not started:
                    raise EmbeddedFailed(self._unusable(error)) from error
                self._died(error.strerror or str(error), None)
                await anyio.sleep(RESTART_LAST)
                continue
            store = Store(self.url, "none")
            try:
                did_answer = await answers(store, process, None if started else START_PATIENCE)
                if did_answer:
                    self._loaded(server)
                    if not started:
                        started = True
                        task_status.started(self.url)
                    repairs = 0
                    await self._until_it_ends(process, store, lock)
            finally:
                self.pid = None
                with anyio.CancelScope(shield=True):
                    await end(process, store)
                    await store.close()
            if not did_answer and repairs < REPAIRS and is_broken(self._server_log()):
                repairs = await self._repair(server.program, repairs, started=started)
                continue
            if not did_answer and not started:
                raise EmbeddedFailed(self._failure(process))
            self._died(self._last_words(), process.returncode)
            pause = RESTART_FIRST if time.monotonic() - began > STEADY else min(pause * 2, RESTART_LAST)
            await anyio.sleep(pause)

    def _died(self, words: str, status: int | None) -> None:
        self.last_words, self.died = words, time.monotonic()
        self._log_event("redis_died", status=status, last_words=words)

    def _log_event(self, event: str, **facts: Any) -> None:
        """Log an error, but the same one only once per minute, because it may occur at every start."""
        now, same = time.monotonic(), event + _NUMBER.sub("", str(facts))
        if now - self._logged.get(same, -SAY_AGAIN) >= SAY_AGAIN:
            recent = {said: at for said, at in self._logged.items() if now - at < SAY_AGAIN}
            self._logged = {**recent, same: now}
            structlog.get_logger().error(event, **facts)

    def _loaded(self, server: Server) -> None:
        """Record which server has the data now, and log any loss of data."""
        self.server = server
        try:
            record(self.folder, server)
        except OSError as error:
            self._log_event("redis_server_not_recorded", reason=str(error))
        offset = cut_at(self._server_log())
        if offset is not None:
            self.damage = f"its append-only file was truncated: everything after byte {offset} is lost"
            structlog.get_logger().error("redis_file_cut", reason=self.damage)

    async def _repair(self, program: str, repairs: int, *, started: bool) -> int:
        """Repair damaged data if there is a journal; return the number of repairs so far.

        Raises EmbeddedFailed.
        """
        words = self._last_words()
        try:
            result = await anyio.to_thread.run_sync(
                repair_or_move_aside, program, self.folder, self.journal, self._restorable, repairs
            )
        except RepairFailed as failed:
            if started:
                structlog.get_logger().error("redis_file_broken", last_words=words, reason=str(failed))
                await anyio.sleep(RESTART_LAST)
                return REPAIRS
            raise EmbeddedFailed(self._broken(words, str(failed), program)) from failed
        self.damage = result.damage
        structlog.get_logger().error(result.event, last_words=words, **result.facts)
        return REPAIRS if result.empty else repairs + 1

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder.chmod(0o700)
        except OSError as error:
            raise EmbeddedFailed(self._unusable(error)) from error

    def _unusable(self, error: OSError) -> str:
        return f"state_dir: {self.folder} cannot be used: {error.strerror}"

    def _keep_place(self, lock: Lock) -> None:
        """Create the folder and its lock again if they were deleted. Raises EmbeddedFailed."""
        self._make_folder()
        try:
            if lock.lost():
                lock.renew()
        except (AlreadyRunning, OSError) as error:
            raise EmbeddedFailed(f"state_dir: {self.folder} cannot be used: {error}") from error

    async def _until_it_ends(self, process: Process, store: Store, lock: Lock) -> None:
        """Wait until the server has ended; end it if its files were lost and are written again."""
        files = deleted_files.Files(self.folder, self.socket, process.pid)

        async def watch() -> None:
            place = lambda: self._keep_place(lock)  # noqa: E731
            await deleted_files.watch(store, files, self.folder, place, self._pause)
            process.terminate()  # The next one has a socket that is found.

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await process.wait()
            tasks.cancel_scope.cancel()

    async def _lock(self) -> Lock:
        deadline = time.monotonic() + LOCK_PATIENCE
        while True:
            try:
                return Lock(self.folder / "lock")
            except AlreadyRunning:
                if time.monotonic() > deadline:
                    raise EmbeddedFailed(self._held()) from None
                await anyio.sleep(0.05)
            except OSError as error:
                raise EmbeddedFailed(self._unusable(error)) from error

    def _held(self) -> str:
        """Return which process holds the folder, and the remedy."""
        pid = listener_pid(str(self.socket))
        if pid is None:
            return f"another Redis still runs on {self.folder}; end it, or set another state_dir"
        halt = halt_reason(pid)
        if halt:
            return f"another Redis (PID {pid}) {halt[0]} and holds {self.folder}; to resume it: {halt[1]}"
        return f"another Redis still runs on {self.folder} (PID {pid}); end it: kill {pid}"

    async def _start(self, server: Server, lock: Lock) -> Process:
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
            "hz": "2",  # How often it wakes up by itself in a second: half of what an idle service costs.
            "daemonize": "no",
        }
        if server.release >= PROTECTED:  # So that it can be told where its folder is now.
            settings["enable-protected-configs"] = "local"
        words = [word for name, value in settings.items() for word in (f"--{name}", value)]
        with self.output.open("ab") as output:
            self._said_from = output.tell()
            process = await anyio.open_process(
                [sys.executable, "-S", launcher.__file__, str(os.getpid()), server.program, *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=lock.descriptors(),
                start_new_session=True,
            )
        self.pid = process.pid
        return process

    def _server_log(self) -> bytes:
        """Return the log of the current server."""
        with contextlib.suppress(OSError), self.output.open("rb") as log:
            log.seek(max(self._said_from, self.output.stat().st_size - LONGEST))
            return log.read()
        return b""

    def _last_words(self) -> str:
        words = last_words(self._server_log())
        with contextlib.suppress(OSError):  # A write that was cut short does not say why.
            if shutil.disk_usage(self.folder).free < FULL:
                return f"{words} (no space left on {self.folder})"
        return words

    def _failure(self, process: Process) -> str:
        words, status = self._last_words(), process.returncode or 0
        if status < 0 and status != -signal.SIGTERM:
            words += f" (killed by {signal.Signals(-status).name})"
        return f"the embedded Redis ({self.folder}) does not start: {words}; see its log {self.output}"

    def _broken(self, words: str, reason: str, program: str) -> str:
        return (
            f"the embedded Redis ({self.folder}) does not start: {words}; it was not repaired: {reason}. "
            f"Copy the file and run `{check_command(program, self.folder)}`, or move {self.folder} away, and "
            "live reservations are restored from the journal"
        )
