"""Watches the files of the embedded Redis: if they are deleted or replaced, the server writes them again.

A server continues without its files, but the next start would find no data, or an older copy that somebody
put there. If its socket is deleted, nobody can connect.
"""

import contextlib
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import structlog
from redis.exceptions import ResponseError

from canhazgpu.events.redis_client.store import Store, StoreDown
from canhazgpu.service.redis_server.server_program import EmbeddedFailed

LOOK_AGAIN = 5.0  # Seconds.
REWRITE_PATIENCE = 60.0  # Seconds a server may take to write all of its data.
MANIFEST = Path("appendonlydir", "appendonly.aof.manifest")  # From Redis 7 on.
_PART = re.compile(r"^file (\S+) ", re.MULTILINE)


class NotWritten(Exception):
    """The server cannot write its data there at the moment; it continues to run."""


class Files:
    """The files of a running server, as they were just after its start."""

    def __init__(self, folder: Path, socket: Path, pid: int) -> None:
        """Read their current state."""
        self._folder, self._pid = folder, pid
        self._ours = {path: _identity(path) for path in (folder, socket, folder / "lock")}
        self._folders = {folder, socket.parent, (folder / MANIFEST).parent}
        self._seen: list[tuple[int, ...]] = []
        self._written, self._size = folder, 0

    def touched(self) -> bool:
        """Return whether a file was created, deleted, replaced or truncated since the last call.

        This is cheap.
        """
        seen, size = [_contents(folder) for folder in self._folders], _size(self._written)
        if seen == self._seen and size >= self._size:
            self._size = size
            return False
        self._seen, self._written = seen, self._parts()[-1]
        self._size = _size(self._written)
        return True

    def forget(self) -> None:
        """Make the next call of `touched` return True."""
        self._seen = []

    def deleted(self) -> Path | None:
        """Return the first missing file, or None if all exist."""
        expected = [*self._ours, *self._parts()]
        return next((path for path in expected if not path.exists()), None)

    def replaced(self, size: int) -> Path | None:
        """Return the first file that was replaced, or is shorter than the `size` that the server wrote."""
        for path, ours in self._ours.items():
            if _identity(path) != ours:
                return path
        parts = self._parts()
        with contextlib.suppress(OSError):
            if _identity(parts[-1]) not in self._open():
                return parts[-1]
            if sum(path.stat().st_size for path in parts) < size:
                return parts[-1]
        return None

    def _parts(self) -> list[Path]:
        """Return the data files; the server writes to the last one."""
        manifest = self._folder / MANIFEST
        with contextlib.suppress(OSError):
            parts = _PART.findall(manifest.read_text())
            if parts:
                return [manifest.parent / name for name in parts]
        return [self._folder / "appendonly.aof"]

    def _open(self) -> set[tuple[int, int] | None]:
        return {_identity(path) for path in Path("/proc", str(self._pid), "fd").iterdir()}


async def watch(
    store: Store, files: Files, folder: Path, place: Callable[[], None], pause: Callable[[], Awaitable[None]]
) -> None:
    """Wait until files were deleted or replaced and the server has written its data into `folder` again.

    `pause` returns when it is time to look. `place` creates the folder. While the files cannot be
    written, the server continues without them. This also returns if the server can no longer be reached.
    """
    said: dict[str, Any] = {}
    outcome: dict[str, Any]
    over = False
    while not over:
        event, path = await _lost(store, files, pause)
        try:
            place()
            await write_again(store, folder)
            outcome, over = {"written_again": True}, True
        except (EmbeddedFailed, NotWritten) as failed:
            outcome = {"not_written": str(failed)}
        except StoreDown as down:
            outcome, over = {"lost": str(down)}, True
        if outcome != said:
            said = outcome
            structlog.get_logger().error(event, path=str(path), **outcome)


async def _lost(store: Store, files: Files, pause: Callable[[], Awaitable[None]]) -> tuple[str, Path]:
    """Return what happened to which file. It looks twice, because a rewrite replaces files."""
    while True:
        await pause()
        if files.touched() and await _look(store, files):
            files.forget()
            await anyio.sleep(LOOK_AGAIN / 10)
            lost = await _look(store, files)
            if lost:
                return lost


async def _look(store: Store, files: Files) -> tuple[str, Path] | None:
    path = files.deleted()
    if path:
        return "redis_files_deleted", path
    size = 0
    with contextlib.suppress(StoreDown):  # Its size first: meanwhile the files only grow.
        facts = await store.ask(store.redis.info("persistence"))
        if not facts["aof_rewrite_in_progress"]:
            size = int(facts.get("aof_current_size", 0))
    path = files.replaced(size)
    return ("redis_files_replaced", path) if path else None


async def short_pause() -> None:
    """Wait between two looks, where nothing else says when."""
    await anyio.sleep(LOOK_AGAIN)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _contents(folder: Path) -> tuple[int, ...]:
    """Return a value that changes if the folder is replaced, or if a file in it is created or deleted."""
    try:
        found = folder.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


async def write_again(store: Store, folder: Path) -> None:
    """Let the server write all of its data into `folder`. Raises NotWritten, or StoreDown if it is down."""
    try:
        with anyio.fail_after(REWRITE_PATIENCE):
            await store.ask(store.redis.config_set("dir", str(folder)))
            await store.ask(store.redis.bgrewriteaof())
            while True:
                facts = await store.ask(store.redis.info("persistence"))
                if not (facts["aof_rewrite_in_progress"] or facts["aof_rewrite_scheduled"]):
                    break
                await anyio.sleep(0.05)
    except (ResponseError, TimeoutError) as error:
        raise NotWritten(str(error) or "it takes too long") from error
    if facts["aof_last_bgrewrite_status"] != "ok":
        raise NotWritten(f"it cannot write to {folder}")
