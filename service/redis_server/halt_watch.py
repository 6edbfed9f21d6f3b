"""Notices that a local Redis is stopped or frozen while requests wait for it, long before they time out."""

from typing import Any

import anyio
from anyio.abc import TaskStatus

from canhazgpu.events.redis_client.store import Store, StoreDown
from canhazgpu.service.redis_server.outage import Outage

LOOK = 1.0  # Seconds that requests wait until the process of Redis is looked at,
LOOK_AGAIN = 0.3  # and while it is known that it does not answer.
ANSWER = 0.3  # Seconds for a Redis whose process looks stopped: one under strace still answers.


class HaltWatch:
    """Lets everything that waits for a stopped Redis fail at once. Nothing is looked at without requests."""

    def __init__(self, store: Store, outage: Outage) -> None:
        """Start without requests."""
        self._store, self._outage = store, outage
        self._requests = 0
        self._begun = anyio.Event()

    def watched(self, application: Any) -> Any:
        """Return an ASGI application whose requests are counted."""

        async def counted(scope: Any, receive: Any, send: Any) -> None:
            self._requests += 1
            self._begun.set()
            try:
                await application(scope, receive, send)
            finally:
                self._requests -= 1

        return counted

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Watch until cancelled."""
        task_status.started()
        while True:
            await self._begun.wait()
            self._begun = anyio.Event()
            await self._pause()
            while self._requests:
                await self._look()
                await self._pause()

    async def _pause(self) -> None:
        await anyio.sleep(LOOK_AGAIN if self._store.down else LOOK)

    async def _look(self) -> None:
        if self._outage.halt() is None:
            return
        try:
            await self._store.ready(ANSWER)
        except StoreDown as down:
            self._store.report_down(down)
            await self._store.redis.connection_pool.disconnect(inuse_connections=True)
