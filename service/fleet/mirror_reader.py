"""Reads the state of all hosts from the fleet's Redis, a few hosts at a time."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any

import anyio
import msgspec
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError

from canhazgpu.events.durations import spell_length
from canhazgpu.events.redis_client.endpoint import Endpoint
from canhazgpu.events.redis_client.fleet_copy import MISSING, RESTARTED, STATE, CopyState
from canhazgpu.events.redis_client.keys import FLEET_HOSTS, Keys, host_of
from canhazgpu.events.redis_client.store import ANSWER_TIMEOUT, Store, unreachable
from canhazgpu.service.storage.snapshot import Snapshot, of_replies, queue_reads

CHUNK = 16  # Hosts that are read at once: the service does nothing else while it decodes them.
PAGE = 5_000  # Keys per SCAN.
MOST_GPUS = 1024  # Of one host.
READS = 5  # Replies of a host, besides one for each GPU.
DEADLINE = 10.0  # Seconds for the names of all hosts, and for each chunk of them.
NO_STATE = CopyState(seen_ms=0, at_ms=0, interval_ms=0, scan_interval_ms=0)
NOTHING = Snapshot(now_ms=0, scanned_ms=None, stalled_ms=None, stalled_reason="", gpus=())
# What another machine answers is not to be trusted: it may be anything.
TROUBLE = (
    RedisError,
    RedisClusterException,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RecursionError,
)


class FleetAway(Exception):
    """The fleet's Redis does not answer, or not as it should; the message says why."""


class HostCopy(msgspec.Struct, frozen=True, kw_only=True):
    """The copy of a host, `age_ms` old. `away`: why it is only the last known state; empty if it is current.

    `missing` are the entries by stream that were removed before they were copied, and `restarted` how often
    a stream has begun again.
    """

    host: str
    seen_ms: int
    age_ms: int
    away: str
    state: CopyState
    snapshot: Snapshot
    missing: dict[str, int] = {}
    restarted: dict[str, int] = {}


class MirrorReader:
    """An open connection to the fleet's Redis. Raises FleetAway."""

    def __init__(self, client: Any) -> None:
        """Read with `client`."""
        self._client = client

    async def hosts(self) -> list[str]:
        """Return the names of all hosts, in order."""
        with anyio.fail_after(DEADLINE):
            found = [key async for key in self._client.scan_iter(match=FLEET_HOSTS, count=PAGE)]
        return sorted({host_of(key.decode()) for key in found})

    async def copies(self, hosts: Sequence[str]) -> AsyncIterator[HostCopy]:
        """Yield the copy of each host that has one, in this order."""
        for start in range(0, len(hosts), CHUNK):
            with anyio.fail_after(DEADLINE):
                chunk = await self._chunk(hosts[start : start + CHUNK])
            for copy in chunk:
                yield copy

    async def _chunk(self, hosts: Sequence[str]) -> list[HostCopy]:
        every = [Keys(host) for host in hosts]
        # In a Cluster, the hosts are on several nodes, and one transaction cannot have them all.
        async with self._client.pipeline(transaction=not self.is_cluster) as batch:
            for keys in every:
                batch.zrange(keys.gpus, 0, MOST_GPUS - 1)
            known = [_indices(indices) for indices in await batch.execute(raise_on_error=False)]
        clock = await self._client.time()
        now_ms = int(clock[0]) * 1000 + int(clock[1]) // 1000
        async with self._client.pipeline(transaction=not self.is_cluster) as batch:
            for keys, indices in zip(every, known, strict=True):
                batch.hgetall(keys.fleet)
                queue_reads(batch, keys, indices)
            replies = iter(await batch.execute(raise_on_error=False))
        found = []
        for keys, indices in zip(every, known, strict=True):
            facts = next(replies)
            copy = _copy(keys.host, now_ms, facts, list(islice(replies, READS + len(indices))))
            found += [copy] if copy else []
        return found

    @property
    def is_cluster(self) -> bool:
        """Whether it is a Cluster."""
        return isinstance(self._client, RedisCluster)


@asynccontextmanager
async def open_mirror(endpoint: Endpoint, host: str) -> AsyncIterator[MirrorReader]:
    """Connect for as long as the block lasts; errors in it become FleetAway."""
    client = _cluster(endpoint) if endpoint.kind == "cluster" else Store(endpoint, host).redis
    try:
        yield MirrorReader(client)
    except TROUBLE as error:
        raise FleetAway(unreachable(error)) from error
    finally:
        with anyio.CancelScope(shield=True):
            await client.aclose()


def _cluster(endpoint: Endpoint) -> Any:
    options = {name: value for name, value in endpoint.options().items() if name != "db"}
    return RedisCluster(
        startup_nodes=[ClusterNode(*seed) for seed in endpoint.seeds],
        ssl=endpoint.is_encrypted,
        protocol=2,
        socket_timeout=ANSWER_TIMEOUT,
        socket_connect_timeout=ANSWER_TIMEOUT,
        retry=Retry(NoBackoff(), 2),
        **options,
    )


def _indices(reply: Any) -> list[int]:
    try:
        return [int(index) for index in reply]
    except TROUBLE:
        return []


def _copy(host: str, now_ms: int, facts: Any, replies: Sequence[Any]) -> HostCopy | None:
    """Return the copy; None if there is none. One that cannot be read hides no other."""
    try:
        for reply in (facts, *replies):
            if isinstance(reply, Exception):
                raise reply
        text = facts.get(STATE.encode())
        return None if text is None else _readable_copy(host, now_ms, text, facts, replies)
    except TROUBLE as error:
        reason = f"the copy of {host} cannot be read: {' '.join(str(error).split())[:200]}"
        return HostCopy(host=host, seen_ms=now_ms, age_ms=0, away=reason, state=NO_STATE, snapshot=NOTHING)


def _readable_copy(
    host: str, now_ms: int, text: bytes, facts: dict[bytes, bytes], replies: Sequence[Any]
) -> HostCopy:
    state = msgspec.json.decode(text, type=CopyState)
    age_ms = max(0, now_ms - state.seen_ms)
    away = f"no sign of life for {spell_length(age_ms // 1000)}" if age_ms > state.patience_ms else ""
    snapshot = of_replies(state.at_ms + age_ms, replies)
    return HostCopy(
        host=host,
        seen_ms=state.seen_ms,
        age_ms=age_ms,
        away=away,
        state=state,
        snapshot=msgspec.structs.replace(
            snapshot, age_ms=age_ms, stale_s=age_ms // 1000 if away else None, stale_reason=away
        ),
        missing=_counts(facts, MISSING),
        restarted=_counts(facts, RESTARTED),
    )


def _counts(facts: dict[bytes, bytes], prefix: str) -> dict[str, int]:
    return {
        name.decode().removeprefix(prefix): int(count)
        for name, count in sorted(facts.items())
        if name.startswith(prefix.encode())
    }
