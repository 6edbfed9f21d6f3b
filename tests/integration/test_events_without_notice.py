"""Most events of reservations concern nobody but who made them: they cost little."""

from typing import Any

import anyio
import pytest
from support.eventually import eventually
from support.reservations import Lab

from canhazgpu.config.settings import Settings
from canhazgpu.events.redis_client.keys import GROUP_DISPATCHER
from canhazgpu.events.redis_client.store import Store
from canhazgpu.workers.dispatch.dispatcher import Dispatcher

pytestmark = pytest.mark.anyio


async def test_an_event_that_nobody_is_told_of_is_only_acknowledged(store: Store) -> None:
    """No state is read for it, nothing is committed, and no timer is looked at."""
    lab = Lab(store)

    async def nothing_left() -> bool:
        groups: Any = await store.redis.xinfo_groups(store.keys.events)
        ours = [group for group in groups if group["name"] == GROUP_DISPATCHER.encode()]
        newest: Any = await store.redis.xrevrange(store.keys.events, count=1)
        places = [(one["pending"], one["last-delivered-id"]) for one in ours]
        return places == [(0, newest[0][0])]

    async with anyio.create_task_group() as tasks:
        await tasks.start(Dispatcher(Settings(), store, "daemon").run)
        await lab.scan()
        await eventually(nothing_left)
        await store.redis.config_resetstat()
        await lab.reserve()
        await eventually(nothing_left)
        told: Any = await store.redis.info("commandstats")
        tasks.cancel_scope.cancel()
    # A scan and the reservation, which is asked for again with the GPUs that it did not know.
    assert told["cmdstat_evalsha"]["calls"] == 3
    assert "cmdstat_zscore" not in told
    assert told["cmdstat_xack"]["calls"] == 1
