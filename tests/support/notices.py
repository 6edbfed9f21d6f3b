"""Notices as channels get them, for tests that have no dispatcher."""

from typing import Any

import msgspec

from canhazgpu.events.envelope import Event
from canhazgpu.events.gpu import ProcessUse
from canhazgpu.events.notices import CREATED, Notice
from canhazgpu.events.redis_client.store import Store
from canhazgpu.events.violations import Violation


def violation(*names: str, user: str = "bob") -> Violation:
    """A violation by processes of these names."""
    processes = tuple(
        ProcessUse(pid=4_000_000 + number, name=name, user=user, memory_mb=1024)
        for number, name in enumerate(names)
    )
    return Violation(
        violation="v1",
        kind="unreserved",
        gpu=0,
        gpu_uuid="GPU-0",
        gpu_name="H100",
        key="uid:1001",
        user=user,
        uid=1001,
        person=user,
        evidence="uid",
        since="2026-11-24T09:15:47.000Z",
        memory_mb=1024,
        peak_memory_mb=1024,
        processes=processes,
    )


def notice(*names: str, user: str = "bob", **facts: Any) -> Notice:
    """A first notice about processes of these names."""
    values: dict[str, Any] = {
        "notice": "01NOTICE",
        "kind": "opened",
        "episode": "v1",
        "host": "gpu-host-1",
        "user": user,
        "uid": 1001,
        "person": user,
        "created": "2026-11-24T09:15:52.000Z",
        "violations": (violation(*names, user=user),),
        **facts,
    }
    return Notice(**values)


async def announce(store: Store, told: Notice) -> None:
    """Put a notice on the stream, as the dispatcher does."""
    event = Event(
        id=told.notice,
        source=f"//{told.host}/canhazgpu",
        type=CREATED,
        subject=f"notice/{told.notice}",
        time=told.created,
        data=msgspec.to_builtins(told),
    )
    fields: Any = event.to_fields()
    await store.redis.xadd(store.keys.notices, fields)
