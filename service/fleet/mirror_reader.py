"""Reads the state of all hosts from the fleet's Redis, a few hosts at a time."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import msgspec
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError, ResponseError

from canhazgpu.events.durations import spell_length
from canhazgpu.events.redis_client.endpoint import Endpoint
from canhazgpu.events.redis_client.fleet_copy import MOST_BYTES, CopiedState, CopyState, decode_state
from canhazgpu.events.redis_client.keys import FLEET_HOSTS, Keys, host_of
from canhazgpu.events.redis_client.store import ANSWER_TIMEOUT, Store, unreachable
from canhazgpu.events.unreadable import of_another_host
from canhazgpu.service.storage.snapshot import GPU_FIELDS, Snapshot, of_replies

CHUNK = 64  # Hosts that are read at once.
USUAL_BYTES = 2**16  # Of the state of a host. Larger ones are read one by one.
STATE, ENDED, HOURS = "fleet_state", "fleet_ended", "fleet_hours"  # Names of keys.
PAGE = 5_000  # Keys per SCAN.
GPU_NAMES = tuple(name.encode() for name in GPU_FIELDS)
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
    OverflowError,
)


class FleetAway(Exception):
    """The fleet's Redis does not answer, or not as it should; the message says why."""


class HostCopy(msgspec.Struct, frozen=True, kw_only=True):
    """The copy of a host, `age_ms` old at `now_ms` on the clock of the fleet's Redis.

    `away`: why it is only the last known state; empty if it is current. `missing` are the entries by stream
    that were removed before they were copied, and `restarted` how often a stream has begun again. `past` is
    the value that was asked for besides the state. A copy that `is_large` takes long to look at: do that in
    a thread.
    """

    host: str
    now_ms: int
    seen_ms: int
    age_ms: int
    away: str
    state: CopyState
    snapshot: Snapshot
    missing: dict[str, int] = {}
    restarted: dict[str, int] = {}
    is_large: bool = False
    past: bytes = b""


class MirrorReader:
    """An open connection to the fleet's Redis. Raises FleetAway."""

    def __init__(self, client: Any) -> None:
        """Read with `client`."""
        self._client = client

    async def hosts(self) -> list[str]:
        """Return the names of all hosts, in order."""
        with anyio.fail_after(DEADLINE):
            found = {key async for key in self._client.scan_iter(match=FLEET_HOSTS, count=PAGE)}
        return sorted({host_of(key.decode()) for key in found})

    async def copies(self, hosts: Sequence[str], past: str = "") -> AsyncIterator[HostCopy]:
        """Yield the copy of each host that has one, in this order; with what `past` names, ENDED or HOURS."""
        with anyio.fail_after(DEADLINE):
            clock = await self._client.time()
        began = time.monotonic() - int(clock[0]) - int(clock[1]) / 1_000_000
        names = [STATE, past] if past else [STATE]
        for start in range(0, len(hosts), CHUNK):
            chunk = hosts[start : start + CHUNK]
            keys = [getattr(Keys(host), name) for host in chunk for name in names]
            with anyio.fail_after(DEADLINE):
                values = await self._values(keys)
            now_ms = int((time.monotonic() - began) * 1000)
            for place, host in enumerate(chunk):
                at = place * len(names)
                some = [
                    await self._large_value(key) if _is_cut(value) else value
                    for key, value in zip(keys[at:], values[at : at + len(names)], strict=False)
                ]
                if any(_is_cut(value) for value in values[at : at + len(names)]):
                    yield await anyio.to_thread.run_sync(_copy, host, now_ms, some)
                elif some[0]:
                    yield _copy(host, now_ms, some)
                    await anyio.lowlevel.checkpoint()

    async def _values(self, keys: Sequence[str]) -> Sequence[Any]:
        """Return the values that hosts have written, at most the usual number of bytes of each."""
        # In a Cluster, the hosts are on several nodes, and one transaction cannot have them all.
        async with self._client.pipeline(transaction=False) as batch:
            for key in keys:
                batch.getrange(key, 0, USUAL_BYTES - 1)
            values: Sequence[Any] = await batch.execute(raise_on_error=False)
        return values

    async def _large_value(self, key: str) -> Any:
        """Return a value that is larger than usual, and one byte more than allowed if it is too large."""
        with anyio.fail_after(DEADLINE):
            try:
                return await self._client.getrange(key, 0, MOST_BYTES)
            except ResponseError as error:  # It was replaced meanwhile.
                return error

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


def _is_cut(value: Any) -> bool:
    return isinstance(value, bytes) and len(value) == USUAL_BYTES


def _copy(host: str, now_ms: int, values: Sequence[Any]) -> HostCopy:
    """Return the copy that the values contain. One that cannot be read hides no other."""
    try:
        for value in values:
            if isinstance(value, Exception):
                raise value
            if len(value) > MOST_BYTES:
                raise ValueError(f"it is larger than {MOST_BYTES >> 20} MiB")
        with of_another_host():
            copy = _readable_copy(host, now_ms, decode_state(values[0]))
        is_large = any(len(value) >= USUAL_BYTES for value in values)
        return msgspec.structs.replace(copy, is_large=is_large, past=b"".join(values[1:]))
    except TROUBLE as error:
        return unreadable_copy(host, now_ms, error)


def unreadable_copy(host: str, now_ms: int, error: Exception) -> HostCopy:
    """Return what there is instead of a copy that cannot be read."""
    reason = f"the copy of {host} cannot be read: {' '.join(str(error).split())[:200]}"
    return HostCopy(
        host=host, now_ms=now_ms, seen_ms=now_ms, age_ms=0, away=reason, state=NO_STATE, snapshot=NOTHING
    )


def _readable_copy(host: str, now_ms: int, found: CopiedState) -> HostCopy:
    state = found.copy
    age_ms = max(0, now_ms - state.seen_ms)
    away = f"no sign of life for {spell_length(age_ms // 1000)}" if age_ms > state.patience_ms else ""
    hashes = found.scan, found.open, found.reservations, found.queue, found.silences
    gpus = [[fields.get(name) for name in GPU_NAMES] for fields in found.gpus.values()]
    snapshot = of_replies(state.at_ms + age_ms, [*hashes, *gpus])
    return HostCopy(
        host=host,
        now_ms=now_ms,
        seen_ms=state.seen_ms,
        age_ms=age_ms,
        away=away,
        state=state,
        snapshot=msgspec.structs.replace(
            snapshot, age_ms=age_ms, stale_s=age_ms // 1000 if away else None, stale_reason=away
        ),
        missing=found.missing,
        restarted=found.restarted,
    )
