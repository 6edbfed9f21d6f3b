"""The views of the fleet: what is shown of the copy of each host."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from canhazgpu.events.spelling.gpu_numbers import is_instance
from canhazgpu.service.fleet.mirror_reader import TROUBLE, HostCopy, unreadable_copy
from canhazgpu.service.status.gpu_status import reservation, rfc3339, silenced_until, states, status
from canhazgpu.service.status.queue_status import queue
from canhazgpu.service.storage.snapshot import instances_by_card

View = Callable[[HostCopy], Any]


def host_line(copy: HostCopy, view: str, rows: View | None = None) -> bytes:
    """Return `host_view` as a line of JSON. A host that cannot be shown hides no other."""
    try:
        return msgspec.json.encode(host_view(copy, view, rows)) + b"\n"
    except TROUBLE as error:
        bare = unreadable_copy(copy.host, copy.now_ms, error)
        return msgspec.json.encode(host_view(bare, view, lambda _: [])) + b"\n"


def host_view(copy: HostCopy, name: str, rows: View | None = None) -> dict[str, Any]:
    """Return one host: when its state was copied, whether it is away, and the rows of the view `name`."""
    return {
        "host": copy.host,
        "seen": rfc3339(copy.seen_ms),
        "seen_s": copy.age_ms // 1000,
        "away": copy.away or None,
        "missing": copy.missing,
        "restarted": copy.restarted,
        name: (rows or VIEWS[name])(copy),
    }


def gpu_rows(copy: HostCopy) -> list[dict[str, Any]]:
    """Return the GPUs as `/v1/status` does on the host."""
    presume = copy.state.presume_holder
    return status(copy.snapshot, copy.state.scan_interval_ms / 1000, presume_holder=presume)


def _counts(copy: HostCopy) -> dict[str, Any]:
    """Return how many GPUs are in each state, and how many requests wait and violations are open.

    `gpus` are all; `whole` are those that are not divided, and `instances` the MIG instances.
    """
    seen = copy.snapshot
    found = states(seen, copy.state.scan_interval_ms / 1000)
    divided = instances_by_card(seen)
    by_index = {gpu.usage.index: state for gpu, state in zip(seen.gpus, found, strict=True)}
    return {
        "gpus": Counter(found),
        "whole": Counter(
            state for index, state in by_index.items() if index not in divided and not is_instance(index)
        ),
        "instances": Counter(state for index, state in by_index.items() if is_instance(index)),
        "waiting": len(seen.waiting),
        "violations": sum(len(gpu.violations) for gpu in seen.gpus),
    }


def _queue(copy: HostCopy) -> list[Any]:
    return queue(copy.snapshot)


def _reservations(copy: HostCopy) -> list[Any]:
    return [reservation(one, copy.snapshot.now_ms) for one in copy.snapshot.reservations]


def _violations(copy: HostCopy) -> list[Any]:
    """Return the open violations, oldest first."""
    silences = copy.snapshot.silences
    found = [violation for gpu in copy.snapshot.gpus for violation in gpu.violations]
    return [
        {
            **msgspec.to_builtins(one),
            "state": "open",
            "told": None,
            "silenced_until": rfc3339(silenced_until(one, silences)),
        }
        for one in sorted(found, key=lambda one: (one.since, one.gpu))
    ]


VIEWS: dict[str, View] = {
    "counts": _counts,
    "gpus": gpu_rows,
    "queue": _queue,
    "reservations": _reservations,
    "violations": _violations,
}
