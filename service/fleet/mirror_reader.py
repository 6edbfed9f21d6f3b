"""Reads the state of all hosts from the fleet's Redis, a few hosts at a time."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import msgspec
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from canhazgpu.events.durations import spell_length
from canhazgpu.events.redis_client.discovery import masters
from canhazgpu.events.redis_client.endpoint import Address, Endpoint
from canhazgpu.events.redis_client.fleet_copy import (
    LOST_MS,
    MOST_BYTES,
    CopiedState,
    CopyState,
    HeldGpus,
    decode_held,
    decode_state,
)
from canhazgpu.events.redis_client.keys import FLEET_HOSTS, Keys, host_of
from canhazgpu.events.redis_client.store import ANSWER_TIMEOUT, Store, unreachable
from canhazgpu.events.unreadable import of_another_host
from canhazgpu.service.storage.snapshot import GPU_FIELDS, Snapshot, of_replies

CHUNK = 64  # Hosts that are read at once.
USUAL_BYTES = 2**16  # Of the state of a host. Larger ones are read one by one.
STATE, ENDED, HOURS, HELD = "fleet_state", "fleet_ended", "fleet_hours", "fleet_held"  # Names of keys.
PAGE = 5_000  # Keys per SCAN.
GPU_NAMES = tuple(name.encode() for name in GPU_FIELDS)
DEADLINE = 10.0  # Seconds for the names of all hosts, and for each chunk of them.
NO_STATE = CopyState(seen_ms=0, at_ms=0, interval_ms=0, scan_interval_ms=0)
NOTHING = Snapshot(now_ms=0, scanned_ms=None, stalled_ms=None, stalled_reason="", gpus=())
# What another machine answers is not to be trusted: it may be anything.
TROUBLE = (
    RedisError,
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
    """Open connections to the nodes of the fleet's Redis: one, or those of a Cluster. Raises FleetAway.

    A node that fails takes only its hosts from the view; `trouble` is its error.
    """

    def __init__(self, nodes: Sequence[Redis]) -> None:
        """Read with `nodes`."""
        self._nodes = list(nodes)
        self._node_of: dict[str, Redis] = {}
        self.trouble: Exception | None = None

    async def hosts(self) -> list[str]:
        """Return the names of all hosts, in order."""
        self._node_of.clear()
        for node in tuple(self._nodes):
            try:
                with anyio.fail_after(DEADLINE):
                    keys = {key async for key in node.scan_iter(match=FLEET_HOSTS, count=PAGE)}
                self._node_of |= {host_of(key.decode()): node for key in keys}
            except TROUBLE as error:
                self._lose(node, error)
        if self.trouble and not self._nodes:
            raise self.trouble
        return sorted(self._node_of)

    async def copies(self, hosts: Sequence[str], past: str = "") -> AsyncIterator[HostCopy]:
        """Yield the copy of each host that has one, in this order; with what `past` names, ENDED or HOURS.

        If a node fails, its error is raised after all others.
        """
        names = [STATE, past] if past else [STATE]
        for start in range(0, len(hosts), CHUNK):
            chunk = hosts[start : start + CHUNK]
            found = await self._read(chunk, names)
            for host in [one for one in chunk if one in found]:
                now_ms, values = found[host]
                if any(map(_is_cut, values)):
                    try:
                        values = await self._large(host, names)
                    except TROUBLE as error:
                        self._lose(self._node_of[host], error)
                        continue
                    yield await anyio.to_thread.run_sync(_copy, host, now_ms, values)
                elif values[0]:
                    yield _copy(host, now_ms, values)
                    await anyio.lowlevel.checkpoint()
        if self.trouble:
            raise self.trouble

    async def held(self, hosts: Sequence[str]) -> dict[str, HeldGpus]:
        """Return what users hold on each of these hosts; a host that says nothing of use is left out."""
        kept: dict[str, HeldGpus] = {}
        for start in range(0, len(hosts), CHUNK):
            found = await self._read(hosts[start : start + CHUNK], [HELD])
            for host, (now_ms, (value,)) in found.items():
                with suppress(*TROUBLE):
                    one = decode_held(value)
                    kept |= {host: one} if now_ms - one.seen_ms < LOST_MS else {}
            await anyio.lowlevel.checkpoint()
        if self.trouble:
            raise self.trouble
        return kept

    async def _read(self, hosts: Sequence[str], names: Sequence[str]) -> dict[str, tuple[int, list[Any]]]:
        found: dict[str, tuple[int, list[Any]]] = {}
        for node in tuple(self._nodes):
            theirs = [host for host in hosts if self._node_of[host] is node]
            try:
                with anyio.fail_after(DEADLINE):
                    found |= await _values(node, theirs, names)
            except TROUBLE as error:
                self._lose(node, error)
        return found

    async def _large(self, host: str, names: Sequence[str]) -> list[Any]:
        """Return values that are larger than usual, and one byte more than allowed if they are too large."""
        node: Any = self._node_of[host]
        values: list[Any] = []
        with anyio.fail_after(DEADLINE):
            for name in names:
                try:
                    values.append(await node.getrange(getattr(Keys(host), name), 0, MOST_BYTES))
                except ResponseError as error:  # It was replaced meanwhile.
                    values.append(error)
        return values

    def _lose(self, node: Redis, error: Exception) -> None:
        self.trouble = error
        if node in self._nodes:
            self._nodes.remove(node)


@asynccontextmanager
async def open_mirror(endpoint: Endpoint, host: str) -> AsyncIterator[MirrorReader]:
    """Connect for as long as the block lasts; errors in it become FleetAway."""
    nodes: list[Redis] = []
    try:
        if endpoint.kind == "cluster":
            nodes += [_node(endpoint, address) for address in await masters(endpoint)]
        else:
            nodes.append(Store(endpoint, host).redis)
        yield MirrorReader(nodes)
    except TROUBLE as error:
        raise FleetAway(unreachable(error)) from error
    finally:
        with anyio.CancelScope(shield=True):
            for node in nodes:
                await node.aclose()


def _node(endpoint: Endpoint, address: Address) -> Redis:
    options = {name: value for name, value in endpoint.options().items() if name != "db"}
    return Redis(
        host=address[0],
        port=address[1],
        ssl=endpoint.is_encrypted,
        protocol=2,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=ANSWER_TIMEOUT,
        socket_connect_timeout=ANSWER_TIMEOUT,
        **options,
    )


async def _values(
    node: Redis, hosts: Sequence[str], names: Sequence[str]
) -> dict[str, tuple[int, list[Any]]]:
    """Return the time of a node in ms and the values of its hosts, at most the usual bytes of each."""
    if not hosts:
        return {}
    async with node.pipeline(transaction=False) as batch:
        batch.time()
        for host in hosts:
            for name in names:
                batch.getrange(getattr(Keys(host), name), 0, USUAL_BYTES - 1)
        clock, *values = await batch.execute(raise_on_error=False)
    now_ms, size = int(clock[0]) * 1000 + int(clock[1]) // 1000, len(names)
    return {
        host: (now_ms, list(values[place * size : (place + 1) * size])) for place, host in enumerate(hosts)
    }


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
