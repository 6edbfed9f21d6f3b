"""One scan on its way to Redis: the single argument `observe` takes, and what it answers."""

import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import msgspec

from canhazgpu.events.gpu import GpuUsage, ProcessUse
from canhazgpu.events.store import Script, Store
from canhazgpu.service.rules import Rules, host_keys

OBSERVE = Script("canhazgpu.service", "observe")
STALL = Script("canhazgpu.service", "stall")
UNKNOWN_USER = "unknown"
DEFAULTS = Rules()

_encode = msgspec.json.Encoder().encode


class Observed(msgspec.Struct, frozen=True):
    """What became of a scan. `due_ms`: when a candidate can be confirmed (Redis' clock), 0 for none."""

    now_ms: int
    due_ms: int
    opened: int
    closed: int
    granted: tuple[str, ...] = ()  # Ids of requests that waited and have their GPUs now.


async def observe(  # noqa: PLR0913 - one scan and the rules it is judged by
    store: Store,
    usages: Sequence[GpuUsage],
    confirm: float,
    stale: float,
    *,
    age: float = 0.0,
    rules: Rules = DEFAULTS,
) -> Observed:
    """Store one scan of all GPUs, and do what follows from it, in one round trip.

    Violations are opened, updated and closed; ended reservations are released; who waits gets what
    is free now. `confirm` and `stale` are seconds: how far apart the two scans must be that open a
    violation, and after what gap without a good scan the first of them counts no more; the reading
    began `age` seconds ago. A repeat of the same scan changes nothing. Raises StoreDown.
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
        [keys.host, rules.text, round(confirm * 1000), round(stale * 1000), math.ceil(age * 1000), scan],
    )
    now_ms, due_ms, opened, closed = map(int, numbers)
    return Observed(now_ms, due_ms, opened, closed, tuple(name.decode() for name in granted))


async def stall(store: Store, reason: str, remedy: str) -> None:
    """Say that scans do not reach the driver, once for each reason. Raises StoreDown."""
    keys = store.keys
    await store.run(STALL, [keys.sequence, keys.events, keys.scan], [keys.host, reason, remedy])


def user_key(process: ProcessUse) -> str:
    """Return what identifies the process's user on this host."""
    if process.uid is not None:
        return f"uid:{process.uid}"
    return f"user:{process.user}" if process.person or process.user != UNKNOWN_USER else UNKNOWN_USER


def _gpu(usage: GpuUsage) -> dict[str, Any]:
    users = list(_users(usage)) if usage.in_use else []
    shown = [
        usage.state,
        usage.reason,
        usage.in_use,
        usage.users,
        [p.pid for p in usage.processes],
        usage.uuid,
    ]
    summary = {
        name: getattr(usage, name)
        for name in ("index", "uuid", "name", "state", "reason", "in_use", "users", "memory_mb")
    }
    return {
        "index": usage.index,
        "uuid": usage.uuid,
        "state": usage.state,
        "usage": _encode(usage).decode(),
        "signature": _encode(shown).decode(),
        "summary": _encode(summary).decode(),
        "users": users,
        "exempt": {user_key(process): True for process in usage.exempt},
    }


def _users(usage: GpuUsage) -> Iterable[dict[str, Any]]:
    if not usage.processes:
        nobody = ProcessUse(pid=0, name="", user=UNKNOWN_USER, memory_mb=None)
        yield _user(usage, UNKNOWN_USER, nobody, [], usage.memory_mb)
    ordered = sorted(usage.processes, key=lambda process: (user_key(process), process.pid))
    for key, group in groupby(ordered, user_key):
        processes = list(group)
        memory = sum(process.memory_mb or 0 for process in processes)
        first = min(processes, key=lambda process: (process.person is None, process.pid))
        yield _user(usage, key, first, processes, memory)


def _user(
    usage: GpuUsage, key: str, one: ProcessUse, processes: list[ProcessUse], memory_mb: int
) -> dict[str, Any]:
    body = {
        "gpu_uuid": usage.uuid,
        "gpu_name": usage.name,
        "user": one.user,
        "uid": one.uid,
        "person": one.person,
        "evidence": one.evidence,
        "processes": processes,
    }
    claims = {process.reservation for process in processes}
    shape = [[process.pid, process.start, process.name] for process in processes]
    return {
        "key": key,
        "uid": -1 if one.uid is None else one.uid,
        "signature": _encode([shape, one.person, one.evidence]).decode(),
        "claim": claims.pop() if len(claims) == 1 and not one.person else None,
        "proven": one.person is not None,
        "memory_mb": memory_mb,
        "body": _encode(body).decode(),
    }
