"""Opens a host's state for commands: next to the running service, or exclusively while it is stopped."""

import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import anyio

from canhazgpu.config.settings import Settings
from canhazgpu.events.redis_client.store import Store, StoreDown
from canhazgpu.service.lock import AlreadyRunning, Lock
from canhazgpu.service.redis_server.embedded import EmbeddedRedis

ANSWERS_WITHIN = 10.0  # Seconds.


class Unavailable(Exception):
    """The state is not available; the message says why and what to do."""


@asynccontextmanager
async def open_offline(settings: Settings, *, alone: bool) -> AsyncIterator[Store]:
    """Open the state of this host; start its embedded Redis if the service is not running.

    `alone`: nothing else may use the state, and no service can start in the meantime. Raises Unavailable.
    """
    state = Path(settings.state_dir)
    with ExitStack() as held:
        stopped = _locked(state, held, needed=alone)
        if alone:
            _no_workers(state)
        unreadable = settings.redis.endpoint().unreadable()
        if unreadable:
            raise Unavailable(unreadable)
        embedded = EmbeddedRedis(state)
        async with anyio.create_task_group() as tasks:
            if stopped and not settings.redis.url:
                await tasks.start(embedded.run)
            store = Store(settings.redis.endpoint(embedded.url), settings.host)
            try:
                await store.ready(ANSWERS_WITHIN)
                yield store
            except StoreDown as down:
                raise Unavailable(str(down)) from None
            finally:
                with anyio.CancelScope(shield=True):
                    await store.close()
            tasks.cancel_scope.cancel()


def _locked(state: Path, held: ExitStack, *, needed: bool) -> bool:
    """Take the service's lock if it is free; return whether it was."""
    try:
        if os.geteuid() not in (0, _owner(state)):
            raise Unavailable("only root and the service's user can do this: use sudo")
        state.mkdir(parents=True, exist_ok=True, mode=0o711)
        held.callback(Lock(state).release)
    except AlreadyRunning:
        if needed:
            remedy = "stop it with `systemctl stop canhazgpu` and start it afterwards; runs are not affected"
            raise Unavailable(f"the service is running: {remedy}") from None
        return False
    except OSError as error:
        raise Unavailable(f"state_dir: {state}: {error.strerror or error}") from None
    return True


def _owner(state: Path) -> int:
    try:
        return state.stat().st_uid
    except FileNotFoundError:
        return os.geteuid()  # Not there yet: creating it fails later without permission.


def _no_workers(state: Path) -> None:
    for path in state.glob("*.lock"):
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            remedy = "stop it with `systemctl stop canhazgpu-worker` and start it afterwards"
            raise Unavailable(f"the worker {path.stem} is running: {remedy}") from None
        finally:
            os.close(file)
