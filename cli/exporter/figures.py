"""Turns one answer of the service into metrics. Pure: it neither asks nor remembers."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from canhazgpu.cli.exporter.event_counts import OTHER
from canhazgpu.cli.status_lines import is_shown
from canhazgpu.events.contract.values import RESERVATION_KINDS, VIOLATION_KINDS
from canhazgpu.events.sanitize import printable
from canhazgpu.events.spelling.gpu_numbers import spell_gpu
from canhazgpu.events.timestamps import ms_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from prometheus_client.core import Metric

STATES = ("AVAILABLE", "IN_USE", "UNRESERVED", "DRAINED", "UNMANAGED", "ERROR", "UNKNOWN", "PARTITIONED")
BOOKINGS = ("planned", "late")
MIB = 2**20
GPU = ("gpu", "uuid")
LEVELS = {  # Field of the answer: name, meaning, factor.
    "utilization_percent": (
        "gpu_utilization_ratio",
        "Share of time in which the GPU was busy, 0 to 1.",
        0.01,
    ),
    "memory_used_mb": ("gpu_memory_used_bytes", "Memory in use on the GPU.", MIB),
    "memory_total_mb": ("gpu_memory_total_bytes", "Memory of the GPU.", MIB),
    "temperature_c": ("gpu_temperature_celsius", "Temperature of the GPU.", 1),
}


def gauge(name: str, about: str, labels: Sequence[str] = ()) -> GaugeMetricFamily:
    """Return a gauge without values."""
    return GaugeMetricFamily(f"canhazgpu_{name}", about, labels=labels)


def one(name: str, about: str, value: float) -> GaugeMetricFamily:
    """Return a gauge with one value and no labels."""
    found = gauge(name, about)
    found.add_metric((), value)
    return found


def figures(answer: dict[str, Any], most_users: int) -> Iterator[Metric]:
    """Yield the metrics of an answer of /v1/metrics; at most `most_users` users are named."""
    gpus = answer["gpus"]
    yield from _gpus(gpus)
    yield from _reservations(gpus, most_users)
    yield from _queue(answer["queue"])
    yield from _bookings(answer.get("bookings", ()))  # An older service has none.
    yield from _violations(gpus)
    yield from _service(answer)
    yield from _streams(answer["streams"] or {"streams": (), "groups": (), "bytes": 0, "limit_bytes": 0})


def _gpus(gpus: Sequence[dict[str, Any]]) -> Iterator[Metric]:
    # A GPU that is divided counts by its MIG instances, unless it fails.
    states_of = {row["gpu_id"]: row["status"] if is_shown(row) else "PARTITIONED" for row in gpus}
    counted = Counter(states_of.values())
    states = gauge("gpus", "GPUs by state; see `canhazgpu status`.", ("state",))
    for state in STATES:
        states.add_metric((state.lower(),), counted[state])
    yield states
    facts = gauge("gpu_info", "The name of each GPU; always 1.", (*GPU, "name"))
    each = gauge("gpu_state", "1 for the state that the GPU has, 0 for the others.", (*GPU, "state"))
    reserved = gauge("gpu_reserved", "Whether the GPU is reserved.", GPU)
    in_use = gauge("gpu_in_use", "Whether the GPU is in use; absent if it cannot be read.", GPU)
    levels = {field: gauge(name, about, GPU) for field, (name, about, _) in LEVELS.items()}
    for row in gpus:
        gpu = (spell_gpu(row["gpu_id"]), printable(row["uuid"]))
        facts.add_metric((*gpu, printable(row["name"])), 1)
        for state in STATES:
            each.add_metric((*gpu, state.lower()), states_of[row["gpu_id"]] == state)
        if row.get("instances"):
            continue
        reserved.add_metric(gpu, row["reservation"] is not None)
        if row["status"] not in ("ERROR", "UNKNOWN"):
            in_use.add_metric(gpu, row["in_use"])
        for field, family in levels.items():
            if row[field] is not None:
                family.add_metric(gpu, row[field] * LEVELS[field][2])
    yield from (facts, each, reserved, in_use, *levels.values())


def _reservations(gpus: Iterable[dict[str, Any]], most_users: int) -> Iterator[Metric]:
    # Once for each of its GPUs: those that are divided count by their MIG instances.
    held = [row["reservation"] for row in gpus if row["reservation"] and not row.get("instances")]
    kinds = Counter(found["kind"] for found in {found["id"]: found for found in held}.values())
    count = gauge("reservations", "Live reservations by kind.", ("kind",))
    for kind in dict.fromkeys((*RESERVATION_KINDS, *kinds)):
        count.add_metric((kind,), kinds[kind])
    yield count
    shares = [(found["kind"], printable(found["user"])) for found in held]
    named = {user for user, _ in Counter(user for _, user in shares).most_common(most_users)}
    owned = Counter((kind, user if user in named else OTHER) for kind, user in shares)
    reserved = gauge("reserved_gpus", "Reserved GPUs by kind of reservation and user.", ("kind", "user"))
    for labels, number in sorted(owned.items()):
        reserved.add_metric(labels, number)
    yield reserved


def _queue(waiting: Sequence[dict[str, Any]]) -> Iterator[Metric]:
    requests = gauge("queue_requests", "Requests in the queue by kind.", ("kind",))
    counted = Counter(row["kind"] for row in waiting)
    for kind in dict.fromkeys((*RESERVATION_KINDS, *counted)):
        requests.add_metric((kind,), counted[kind])
    yield requests
    yield one("queue_gpus", "GPUs that the requests in the queue need.", sum(row["count"] for row in waiting))
    longest = max((row["waiting_s"] for row in waiting), default=0)
    yield one(
        "queue_longest_wait_seconds", "How long the request that came first has waited so far.", longest
    )


def _bookings(booked: Sequence[dict[str, Any]]) -> Iterator[Metric]:
    count = gauge("bookings", "Bookings that have not begun; late: they wait for GPUs.", ("state",))
    gpus = gauge("booked_gpus", "The sum of the GPUs of these bookings, which need not overlap.", ("state",))
    for state in BOOKINGS:
        counts = [row["count"] for row in booked if row["late"] == (state == "late")]
        count.add_metric((state,), len(counts))
        gpus.add_metric((state,), sum(counts))
    yield from (count, gpus)


def _violations(gpus: Iterable[dict[str, Any]]) -> Iterator[Metric]:
    found = {one["violation"]: one for row in gpus for one in row["violations"]}.values()
    kinds = Counter(one["kind"] for one in found)
    opened = gauge("violations_open", "Open violations by kind.", ("kind",))
    for kind in dict.fromkeys((*VIOLATION_KINDS, *kinds)):
        opened.add_metric((kind,), kinds[kind])
    yield opened
    silenced = sum(one["silenced_until"] is not None for one in found)
    yield one("violations_silenced", "Open violations about which no notices are sent.", silenced)


def _service(answer: dict[str, Any]) -> Iterator[Metric]:
    yield one("scan_age_seconds", "How long ago the last scan ended.", answer["scan_age_s"])
    if answer["scan_duration_s"] is not None:
        yield one("scan_duration_seconds", "How long the last scan took.", answer["scan_duration_s"])
    yield one("scan_stalled", "Whether scans fail for all GPUs.", answer["stalled"] is not None)
    yield one("redis_up", "Whether Redis answers the service.", answer["redis_trouble"] is None)
    yield one(
        "redis_weaknesses",
        "Settings or failures because of which Redis may lose data; `canhazgpu doctor` names them.",
        len(answer["redis_weaknesses"]),
    )
    yield one("journal_ok", "Whether the journal can be written.", answer["journal_weakness"] is None)
    if answer["restored_at"]:
        at = ms_of(answer["restored_at"]) / 1000
        yield one("last_restoration_timestamp_seconds", "When lost state of Redis was last restored.", at)


def _streams(report: dict[str, Any]) -> Iterator[Metric]:
    entries = gauge("stream_entries", "Entries of each stream.", ("stream",))
    sizes = gauge("stream_bytes", "Memory of each stream.", ("stream",))
    trimmed = CounterMetricFamily(
        "canhazgpu_stream_trimmed_entries",
        "Entries that were removed from each stream since the service started.",
        labels=("stream",),
    )
    for row in report["streams"]:
        entries.add_metric((row["stream"],), row["entries"])
        sizes.add_metric((row["stream"],), row["bytes"])
        trimmed.add_metric((row["stream"],), row["trimmed"])
    lag = gauge(
        "consumer_group_lag_entries", "Entries that the group has not acknowledged.", ("stream", "group")
    )
    abandoned = gauge(
        "consumer_group_abandoned", "Whether entries are no longer kept for it.", ("stream", "group")
    )
    groups = {(row["stream"], printable(row["group"])): row for row in report["groups"]}
    for labels, row in groups.items():
        lag.add_metric(labels, row["behind"])
        abandoned.add_metric(labels, row["abandoned"] is not None)
    yield from (entries, sizes, trimmed, lag, abandoned)
    yield one("streams_limit_bytes", "Memory that all streams together may use.", report["limit_bytes"])
