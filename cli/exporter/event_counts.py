"""Counts events: what has happened since the exporter was started. It never asks the service."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram

from canhazgpu.events.contract.values import (
    CLOSE_REASONS,
    LEAVE_REASONS,
    OUTCOMES,
    RELEASE_REASONS,
    RESERVATION_KINDS,
    VIOLATION_KINDS,
)
from canhazgpu.events.envelope import GAP, TYPES
from canhazgpu.events.notices import CHANNELS
from canhazgpu.events.reservations import MANUAL, RUN
from canhazgpu.events.sanitize import printable
from canhazgpu.events.timestamps import ms_of

OTHER = "other"
# Every label value is known before it is first counted: increase() does not see a counter that begins at 1.
MOST_CHANNELS = 50
WAITS = (1, 10, 60, 300, 900, 1800, 3600, 2 * 3600, 4 * 3600, 8 * 3600, 24 * 3600)
PREFIX = "canhazgpu."


class EventCounts:
    """The counters. Their labels have only known values; any other is counted as `other`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Start all counters at zero."""

        def counter(name: str, about: str, *labels: str) -> Counter:
            return Counter(f"canhazgpu_{name}", about, labels, registry=registry)

        self._events = counter("events", "Events of the service, by type.", "type")
        self._missed = counter("events_missed", "Events that were trimmed before they could be counted.")
        self._created = counter("reservations_created", "Reservations that have begun.", "kind")
        self._ended = counter("reservations_ended", "Reservations that have ended.", "kind", "reason")
        self._left = counter("queue_left", "Requests that left the queue without GPUs.", "reason")
        self._opened = counter("violations_opened", "Violations that have begun.", "kind")
        self._closed = counter("violations_closed", "Violations that have ended.", "kind", "reason")
        self._attempts = counter(
            "notice_attempts", "Attempts to deliver a notice to one recipient.", "channel", "outcome"
        )
        self._waits = Histogram(
            "canhazgpu_queue_wait_seconds",
            "How long requests were in the queue until they got their GPUs.",
            ("kind",),
            buckets=WAITS,
            registry=registry,
        )
        self._channels: set[str] = set()
        self._start_at_zero()

    def _start_at_zero(self) -> None:
        for name in TYPES:
            self._events.labels(name.removeprefix(PREFIX))
        for kind in RESERVATION_KINDS:
            self._created.labels(kind)
        for kind in (RUN, MANUAL):  # Not every host has a scheduler.
            self._waits.labels(kind)
            for reason in RELEASE_REASONS:
                self._ended.labels(kind, reason)
        for reason in LEAVE_REASONS:
            self._left.labels(reason)
        for kind in VIOLATION_KINDS:
            self._opened.labels(kind)
            for reason in CLOSE_REASONS:
                self._closed.labels(kind, reason)

    def know_channel(self, name: str) -> str:
        """Start the counters of a channel at zero; return the label that it has."""
        if name not in self._channels:
            if len(self._channels) >= MOST_CHANNELS and name not in CHANNELS:
                return OTHER
            self._channels.add(name)
            for outcome in OUTCOMES:
                self._attempts.labels(name, outcome)
        return name

    def count(self, event: dict[str, Any]) -> None:
        """Count one event as the API gives it."""
        data, name = event["data"], str(event["type"]).removeprefix(PREFIX)
        if event["type"] == GAP:
            self._missed.inc(data.get("missing") or 1)
            return
        self._events.labels(name if event["type"] in TYPES else OTHER).inc()
        kind = _known(data.get("kind"), RESERVATION_KINDS)
        if name == "reservation.created":
            self._created.labels(kind).inc()
            if data.get("queued"):
                self._waits.labels(kind).observe(_seconds(data["queued"], data.get("started")))
        elif name == "reservation.released" and not data.get("kept"):
            self._ended.labels(kind, _known(data.get("reason"), RELEASE_REASONS)).inc()
        elif name == "request.left":
            self._left.labels(_known(data.get("reason"), LEAVE_REASONS)).inc()
        elif name == "violation.opened":
            self._opened.labels(_known(data.get("kind"), VIOLATION_KINDS)).inc()
        elif name == "violation.closed":
            reason = _known(data.get("reason"), CLOSE_REASONS)
            self._closed.labels(_known(data.get("kind"), VIOLATION_KINDS), reason).inc()
        elif name == "notice.attempted":
            channel = self.know_channel(printable(str(data.get("channel"))))
            given_up = data.get("outcome") == "retry" and data.get("final")
            outcome = "failed" if given_up else _known(data.get("outcome"), OUTCOMES)
            self._attempts.labels(channel, outcome).inc()


def _known(value: object, names: tuple[str, ...]) -> str:
    return value if isinstance(value, str) and value in names else OTHER


def _seconds(begin: object, end: object) -> float:
    try:
        return max(0.0, (ms_of(str(end)) - ms_of(str(begin))) / 1000)
    except ValueError:
        return 0.0
