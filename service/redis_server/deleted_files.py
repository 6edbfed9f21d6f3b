"""The files of the embedded Redis: notices that they were deleted while it runs, and has it write them again.

A server goes on without its files, but the next start would find nothing, and nobody finds its socket.
"""

import contextlib
import re
from collections.abc import Callable
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
    """The server cannot write its data there for now; it goes on."""


async def watch(store: Store, folder: Path, socket: Path, place: Callable[[], None]) -> None:
    """Return when files of the server were deleted and its data are in `folder` again, which `place` makes.

    Until they can be written it goes on without; it also returns when it cannot be reached any more.
    """
    said: dict[str, Any] = {}
    outcome: dict[str, Any]
    over = False
    while not over:
        path = str(await _missing(folder, socket))
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
            structlog.get_logger().error("redis_files_deleted", path=path, **outcome)


async def _missing(folder: Path, socket: Path) -> Path:
    """Return the first file that is missing in two looks: a rewrite may replace files meanwhile."""
    while True:
        await anyio.sleep(LOOK_AGAIN)
        if deleted(folder, socket):
            await anyio.sleep(LOOK_AGAIN / 10)
            path = deleted(folder, socket)
            if path:
                return path


def deleted(folder: Path, socket: Path) -> Path | None:
    """Return the first of a running server's files that is not there, None when all are."""
    expected = [folder, socket, folder / "lock"]
    with contextlib.suppress(OSError):
        parts = _PART.findall((folder / MANIFEST).read_text())
        expected += [folder / MANIFEST.parent / name for name in parts]
    if not (folder / MANIFEST).exists():
        expected.append(folder / "appendonly.aof")
    return next((path for path in expected if not path.exists()), None)


async def write_again(store: Store, folder: Path) -> None:
    """Have the server write all of its data into `folder`. Raises NotWritten, StoreDown where it is away."""
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
