"""Stores a scan in Redis: builds the argument of the script `observe` and parses its answer."""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any

import msgspec

from canhazgpu.events.gpu import GpuUsage, ProcessUse
from canhazgpu.events.redis_client.scripts import Script
from canhazgpu.events.redis_client.store import Store, StoreDown
from canhazgpu.service.storage.policy import AllocationPolicy, host_keys

OBSERVE = Script("canhazgpu.service.gpus", "observe")
STALL = Script("canhazgpu.service.gpus", "stall")
UNKNOWN_USER, CONTAINERS = "unknown", "containers"
DEFAULTS = AllocationPolicy()
KNOWN = 64  # GPUs whose stored state is reused while nothing changes.
DIGEST = 32  # Characters.
RESTORED = "the cards were restored as they were before: their state is moved first"
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
    former: Mapping[int, str] | None = None,
) -> Observed:
    """Store one scan of all GPUs and apply its consequences in one round trip.

    Violations are opened, updated and closed, ended reservations are released, and waiting requests get free
    GPUs. `confirm` is the minimum time in seconds between the two scans that open a violation; `stale` is the
    gap without a good scan after which the first of them no longer counts. The reading started `age` seconds
    ago. `ended`: open violations ("GPU/key") on missing cards whose processes have ended. Storing the same
    scan again changes nothing. `former`: the UUIDs that Redis has at indices where they differ from the scan.
    Raises StoreDown, also if Redis has others, because it was restored; None does not check this.
    """
    keys = store.keys
    judged_by = rules.text + b"%d %d" % (round(confirm * 1000), round(stale * 1000))
    rows = [_lines(usage, judged_by) for usage in usages]
    reply = await store.run(
        OBSERVE,
        [
            *host_keys(keys),
            keys.violations,
            keys.open,
            keys.pending,
            keys.usage,
            *(keys.gpu(usage.index) for usage in usages),
        ],
        [
            keys.host,
            rules.text_for(store.fencing_token),
            round(confirm * 1000),
            round(stale * 1000),
            math.ceil(age * 1000),
            b",".join([digest for digest, _ in rows]),
            b"".join([lines for _, lines in rows]),
            _encode(ended),
            _encode(former if former is None else [former.get(usage.index) for usage in usages]),
        ],
    )
    if reply is None:
        raise StoreDown(RESTORED)
    *numbers, granted = reply
    now_ms, due_ms, opened, closed, freed = map(int, numbers)
    return Observed(now_ms, due_ms, opened, closed, freed, tuple(name.decode() for name in granted))


async def stall(store: Store, reason: str, remedy: str) -> None:
    """Record that scans cannot reach the driver, once per reason. Raises StoreDown."""
    keys = store.keys
    await store.run(STALL, [keys.sequence, keys.events, keys.scan], [keys.host, reason, remedy, store.owner])


def user_key(process: ProcessUse) -> str:
    """Return the key of the violation that a process belongs to.

    Containers without a proven user share one violation for each user they are hinted at, and one if there is
    no hint: a user can start any number of them, with any uids. So do those whose cgroup names no container.
    """
    hint = process.hint
    if process.uid is not None or process.person is not None or process.user == UNKNOWN_USER:
        return identity_key(process)
    return CONTAINERS if hint is None else f"{CONTAINERS}:{hint.user if hint.uid is None else hint.uid}"


def identity_key(process: ProcessUse) -> str:
    """Return the key of the process's user on this host; processes in containers have their own."""
    if process.uid is not None:
        return f"uid:{process.uid}"
    return f"user:{process.user}" if process.person or process.user != UNKNOWN_USER else UNKNOWN_USER


@lru_cache(maxsize=KNOWN)
def _lines(usage: GpuUsage, judged_by: bytes) -> tuple[bytes, bytes]:
    """Return the digest of all that a scan decides by, and the usage of the GPU and its row, a line each."""
    text = _encode(usage)
    row = _encode(
        {
            "index": usage.index,
            "uuid": usage.uuid,
            "name": usage.name,
            "state": usage.state,
            "reason": usage.reason,
            "remedy": usage.remedy,
            "in_use": usage.in_use,
            "memory_mb": usage.memory_mb,
            "names": _encode(usage.users).decode(),
            "signature": _encode([process.pid for process in usage.processes]).decode(),
            "users": list(_users(usage, text)) if usage.in_use else [],
            "utilization": usage.utilization_percent,
            "exempt": {user_key(process): True for process in usage.exempt},
        }
    )
    digest = hashlib.sha256(OBSERVE.sha.encode() + judged_by + text + row).hexdigest()[:DIGEST]
    return digest.encode(), b"%b\n%b\n" % (text, row)


def _users(usage: GpuUsage, text: bytes) -> Iterable[dict[str, Any]]:
    if not usage.processes:
        yield _row(usage, UNKNOWN_USER, [], text)
    ordered = sorted(usage.processes, key=lambda process: (user_key(process), process.pid))
    for key, group in groupby(ordered, user_key):
        yield _row(usage, key, list(group), text)


def _row(usage: GpuUsage, key: str, processes: list[ProcessUse], text: bytes) -> dict[str, Any]:
    """Return a user's use of a GPU. A script selects the members that count, and of their heads the first.

    `text`: the usage as JSON, of which each member is a part.
    """
    heads: dict[str, dict[str, Any]] = {}
    of_process: dict[int, str] = {}
    for one in sorted(processes, key=lambda one: (one.person is None, one.hint is None, one.pid)) or [NOBODY]:
        head = _head(usage, one)
        of_process[one.pid] = described = _encode(head).decode()
        heads.setdefault(described, head)
    places = {described: place for place, described in enumerate(heads, 1)}
    return {
        "key": key,
        "heads": list(heads.values()),
        "memory_mb": usage.memory_mb,
        "members": [
            _member(process, places[of_process[process.pid]] if len(places) > 1 else None, text)
            for process in processes
        ],
    }


def _head(usage: GpuUsage, process: ProcessUse) -> dict[str, Any]:
    facts = {
        "gpu_uuid": usage.uuid,
        "gpu_name": usage.name,
        "uid": process.uid,
        "person": process.person,
        "evidence": process.evidence,
        "hint": process.hint,
    }
    return {
        "user": process.user,
        "identity": _encode(process.person).decode(),
        "known_by": f"{process.evidence} {process.hint.user}" if process.hint else process.evidence,
        "facts": _encode(facts).decode(),
    }


def _member(process: ProcessUse, head: int | None, text: bytes) -> dict[str, Any]:
    part = _encode(process)
    before = text.index(part)
    facts = {
        "head": head,
        "key": identity_key(process),
        "uid": process.uid,
        "login_uid": process.login_uid,
        "run": process.run,
        "reservation": process.reservation,
        "person": process.person,
        "unnamed": process.unnamed or None,
        "hint": process.hint,
        "began_ms": process.began_ms,
        "start": process.start,
        "memory_mb": process.memory_mb,
        "shape": f"{process.pid}.{process.start}",
        "from": before + 1,
        "to": before + len(part),
    }
    return {name: value for name, value in facts.items() if value is not None}
