"""If the clock is set back, released GPUs are available at once."""

import pytest
from support.reservations import ALICE, Lab

from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.reservations.releases import ReleaseOrder

pytestmark = pytest.mark.anyio
HOUR_MS = 3600_000


@pytest.fixture
def lab(store: Store) -> Lab:
    """A host of two GPUs."""
    return Lab(store)


async def test_a_gpu_that_was_released_can_be_had(lab: Lab) -> None:
    """A GPU whose release is in the future after the change can be reserved."""
    name = await lab.reserve()
    order = ReleaseOrder(uid=ALICE, by="alice", reason="released", ids=(name,))
    await lab.allocator.release(order, "release")
    key = lab.store.keys.gpu(0)
    await lab.store.redis.hincrby(key, "last_released", HOUR_MS)
    await lab.scan()
    assert await lab.store.redis.hexists(key, "unseen")  # That scan may have begun before the release.
    await lab.scan()
    assert await lab.reserve(uid=ALICE + 1)


async def test_a_run_that_ended_is_over(lab: Lab) -> None:
    """A run whose end is in the future after the change is released."""
    name = await lab.reserve("run", pid=77, start=1)
    await lab.allocator.conclude(name)
    await lab.later(-60)
    await lab.scan()
    await lab.scan()
    assert await lab.allocator.reservations() == []
