"""Reads what keeps notices back: silences, acknowledgements, and GPUs that the driver does not list.

What is known of the processes on a missing GPU is from before, and advice about them would be wrong.
"""

from canhazgpu.events.redis_client.store import Store
from canhazgpu.events.silences import Silence, readable_silences
from canhazgpu.events.timestamps import rfc3339

CHECK_AGAIN_MS = 60_000  # The dispatcher checks when a GPU recovers; this is in case that event was lost.


async def suppression(store: Store) -> tuple[list[Silence], dict[int, int]]:
    """Return the silences and those of missing GPUs, and the end of the last acknowledgement by uid."""
    keys = store.keys
    async with store.redis.pipeline(transaction=False) as pipe:
        pipe.hvals(keys.silences)
        pipe.hgetall(keys.acks)
        pipe.zrange(keys.gpus, 0, -1)
        rows, acks, known = await store.ask(pipe.execute())
    silences = readable_silences(rows)
    silences += await _of_missing(store, [int(index) for index in known])
    return silences, {int(uid): int(until_ms) for uid, until_ms in acks.items()}


async def _of_missing(store: Store, indices: list[int]) -> list[Silence]:
    async with store.redis.pipeline(transaction=False) as pipe:
        for index in indices:
            pipe.hget(store.keys.gpu(index), "missing_ms")
        missing = await store.ask(pipe.execute())
    if not any(missing):
        return []
    now_ms = await store.now_ms()
    return [
        Silence(
            id=f"missing-{index}",
            by="canhazgpu",
            by_uid=0,
            since=rfc3339(now_ms),
            until=rfc3339(now_ms + CHECK_AGAIN_MS),
            until_ms=now_ms + CHECK_AGAIN_MS,
            reason="not found by the driver",
            gpu=index,
        )
        for index, since in zip(indices, missing, strict=True)
        if since
    ]
