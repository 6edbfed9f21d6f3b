"""Processes in containers without a proven user, and their open violations."""

from typing import Any

from support.reservations import ALICE, BOB

from canhazgpu.events.gpu import Container, Hint, ProcessUse
from canhazgpu.events.open_violations import open_violations
from canhazgpu.events.redis_client.store import Store
from canhazgpu.events.violations import Violation

BOBS = Hint(user="u1002", uid=BOB, source='container "train" has /home/u1002 mounted')
ALICES = Hint(user="u1001", uid=ALICE, source="its environment names u1001")


def in_container(**facts: Any) -> ProcessUse:
    """Return a process in a container, without a proven user."""
    box = Container(runtime="docker", id="0123456789ab")
    facts = {"user": "root in docker 0123456789ab", "pid": 4242, "container": box, **facts}
    return ProcessUse(**{"name": "python3", "memory_mb": 900, "start": 1, **facts})


async def violations(store: Store) -> list[Violation]:
    """Return the open violations."""
    opened: Any = await store.redis.hgetall(store.keys.open)
    return open_violations(opened)
