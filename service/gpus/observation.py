"""Stores a scan in Redis: builds the argument of the script `observe` and parses its answer."""

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any

import msgspec

from canhazgpu.events.gpu import GpuUsage, ProcessUse
from canhazgpu.events.redis_client.scripts import Script
from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.storage.policy import AllocationPolicy, host_keys

OBSERVE = Script("canhazgpu.service.gpus", "observe")
STALL = Script("canhazgpu.service.gpus", "stall")
UNKNOWN_USER, CONTAINERS = "unknown", "containers"
DEFAULTS = AllocationPolicy()
KNOWN = 64  # GPUs whose stored state is reused while nothing changes.
NOBODY = ProcessUse(pid=0, name="", user=UNKNOWN_USER, memory_mb=None)

_encode = msgspec.json.Encoder().encode


class Observed(msgspec.Struct, frozen=True):
    """The result of a scan. `due_ms`: when a candidate can be confirmed (on Redis' clock), 0 for none."""

    now_ms: int
    due_ms: int
    opened: int
    closed: int
    freed: int = 0
    granted: tuple[str, ...] = ()  # Ids of waiting requests that were granted.


async def observe(  # noqa: PLR0913 - one scan and the rules it is judged by
    store: Store,
    usages: Sequence[GpuUsage],
    confirm: float,
    stale: float,
    *,
    age: float = 0.0,
    rules: AllocationPolicy = DEFAULTS,
    ended: Sequence[str] = (),
) -> Observed:
    """Store one scan of all GPUs and apply its consequences in one round trip.

    Violations are opened, updated and closed, ended reservations are released, and waiting requests get free
    GPUs. `confirm` is the minimum time in seconds between the two scans that open a violation; `stale` is the
    gap without a good scan after which the first of them no longer counts. The reading started `age` seconds
    ago. `ended`: open violations ("GPU/key") on missing cards whose processes have ended. Storing the same
    scan again changes nothing. Raises StoreDown.
    """
    keys = store.keys
    scan = _encode([_gpu(usage) for usage in usages])
    *numbers, granted = await store.run(
        OBSERVE,
        [
            *host_keys(keys),
            keys.violations,
            keys.open,
            keys.pending,
            *(keys.gpu(usage.index) for usage in usages),
        ],
        [
            keys.host,
            rules.text_for(store.promise),
            round(confirm * 1000),
            round(stale * 1000),
            math.ceil(age * 1000),
            scan,
            _encode(ended),
        ],
    )
    now_ms, due_ms, opened, closed, freed = map(int, numbers)
    return Observed(now_ms, due_ms, opened, closed, freed, tuple(name.decode() for name in granted))


async def stall(store: Store, reason: str, remedy: str) -> None:
    """Record that scans cannot reach the driver, once per reason. Raises StoreDown."""
    keys = store.keys
    await store.run(STALL, [keys.sequence, keys.events, keys.scan], [keys.host, reason, remedy, store.owner])


def user_key(process: ProcessUse) -> str:
    """Return the key of the violation that a process belongs to.

    All containers without a proven user share one violation, because a user can start any number of them.
    """
    unproven = process.uid is None and process.person is None
    return CONTAINERS if unproven and process.container is not None else identity_key(process)


def identity_key(process: ProcessUse) -> str:
    """Return the key of the process's user on this host; processes in containers have their own."""
    if process.uid is not None:
        return f"uid:{process.uid}"
    return f"user:{process.user}" if process.person or process.user != UNKNOWN_USER else UNKNOWN_USER


@lru_cache(maxsize=KNOWN)
def _gpu(usage: GpuUsage) -> msgspec.Raw:
    users = list(_users(usage)) if usage.in_use else []
    outline = [usage.state, usage.reason, usage.in_use, usage.users, usage.uuid]
    summary = {
        name: getattr(usage, name)
        for name in ("index", "uuid", "name", "state", "reason", "remedy", "in_use", "users", "memory_mb")
    }
    row = {
        "index": usage.index,
        "uuid": usage.uuid,
        "state": usage.state,
        "usage": _encode(usage).decode(),
        "outline": _encode(outline).decode(),
        "signature": _encode([process.pid for process in usage.processes]).decode(),
        "summary": _encode(summary).decode(),
        "users": users,
        "exempt": {user_key(process): True for process in usage.exempt},
    }
    return msgspec.Raw(_encode(row))


def _users(usage: GpuUsage) -> Iterable[dict[str, Any]]:
    if not usage.processes:
        yield _row(usage, UNKNOWN_USER, NOBODY, [])
    ordered = sorted(usage.processes, key=lambda process: (user_key(process), process.pid))
    for key, group in groupby(ordered, user_key):
        processes = list(group)
        first = min(processes, key=lambda one: (one.person is None, one.hint is None, one.pid))
        yield _row(usage, key, first, processes)


def _row(usage: GpuUsage, key: str, one: ProcessUse, processes: list[ProcessUse]) -> dict[str, Any]:
    """Return one user's use of a GPU. A script selects the members that count and adds them to the head."""
    head = {
        "gpu_uuid": usage.uuid,
        "gpu_name": usage.name,
        "user": _named(one, processes),
        "uid": one.uid,
        "person": one.person,
        "evidence": one.evidence,
        "hint": one.hint,
    }
    return {
        "key": key,
        "head": _encode(head).decode(),
        "identity": _encode(one.person).decode(),
        "evidence": one.evidence,
        "memory_mb": usage.memory_mb,
        "members": [_member(process) for process in processes],
    }


def _named(one: ProcessUse, processes: list[ProcessUse]) -> str:
    others = len({process.user for process in processes} - {one.user})
    return f"{one.user} and {others} more" if others else one.user


def _member(process: ProcessUse) -> dict[str, Any]:
    facts = {
        "key": identity_key(process),
        "uid": process.uid,
        "login_uid": process.login_uid,
        "run": process.run,
        "reservation": process.reservation,
        "person": process.person,
        "hint": process.hint,
        "began_ms": process.began_ms,
        "memory_mb": process.memory_mb,
        "shape": f"{process.pid}.{process.start}",
        "process": _encode(process).decode(),
    }
    return {name: value for name, value in facts.items() if value is not None}
