"""What the exporter counts, event by event."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from canhazgpu.cli.exporter.event_counts import MOST_CHANNELS, EventCounts


class Counted:
    """The counters of a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.counts = EventCounts(self.registry)

    def count(self, type_: str, **data: Any) -> None:
        """Count one event."""
        self.counts.count({"type": f"canhazgpu.{type_}", "data": data, "stream_id": "1-1"})

    def __call__(self, name: str, **labels: str) -> float | None:
        """Return a value."""
        return self.registry.get_sample_value(f"canhazgpu_{name}", labels)


@pytest.fixture
def counted() -> Counted:
    """Counters that have counted nothing."""
    return Counted()


def test_every_event_is_counted_by_its_type(counted: Counted) -> None:
    """From zero; a type that this version does not know is `other`."""
    assert counted("events_total", type="gpu.failed") == 0
    counted.count("gpu.failed")
    counted.count("invented.yesterday")
    assert counted("events_total", type="gpu.failed") == 1
    assert counted("events_total", type="other") == 1


def test_missing_events_are_counted(counted: Counted) -> None:
    """As many as are known to be missing, at least one."""
    counted.count("stream.gap", missing=4694)
    counted.count("stream.gap", missing=None)
    assert counted("events_missed_total") == 4695


def test_the_wait_is_that_of_a_request_that_was_in_the_queue(counted: Counted) -> None:
    """A reservation that was granted at once has no wait."""
    counted.count("reservation.created", kind="manual", started="2026-11-30T10:00:00.000Z")
    counted.count(
        "reservation.created",
        kind="run",
        started="2026-11-30T10:01:30.500Z",
        queued="2026-11-30T10:00:00.000Z",
    )
    assert counted("queue_wait_seconds_count", kind="manual") == 0
    assert counted("queue_wait_seconds_sum", kind="run") == 90.5
    assert counted("queue_wait_seconds_bucket", kind="run", le="60.0") == 0
    assert counted("queue_wait_seconds_bucket", kind="run", le="300.0") == 1
    assert counted("reservations_created_total", kind="run") == 1


def test_the_release_of_some_gpus_is_no_end(counted: Counted) -> None:
    """Only a reservation without GPUs has ended."""
    counted.count("reservation.released", kind="manual", reason="released", kept=[1])
    assert counted("reservations_ended_total", kind="manual", reason="released") == 0
    counted.count("reservation.released", kind="manual", reason="released")
    assert counted("reservations_ended_total", kind="manual", reason="released") == 1


def test_violations_requests_and_notices(counted: Counted) -> None:
    """By kind, by reason, and by channel and outcome."""
    counted.count("violation.opened", kind="trespass")
    counted.count("violation.closed", kind="trespass", reason="stopped")
    counted.count("request.left", kind="run", reason="timed-out")
    counted.count("notice.attempted", kind="opened", channel="webhook:chat", outcome="failed")
    assert counted("violations_opened_total", kind="trespass") == 1
    assert counted("violations_closed_total", kind="trespass", reason="stopped") == 1
    assert counted("queue_left_total", reason="timed-out") == 1
    assert counted("notice_attempts_total", channel="webhook:chat", outcome="failed") == 1


def test_the_last_of_many_attempts_has_failed(counted: Counted) -> None:
    """A notice that is not tried again was not delivered, and is a dead letter."""
    counted.count("notice.attempted", channel="email", outcome="retry", final=False)
    counted.count("notice.attempted", channel="email", outcome="retry", final=True)
    assert counted("notice_attempts_total", channel="email", outcome="retry") == 1
    assert counted("notice_attempts_total", channel="email", outcome="failed") == 1


def test_a_channel_begins_at_zero(counted: Counted) -> None:
    """So that an alert sees its first failure."""
    counted.counts.know_channel("email")
    assert counted("notice_attempts_total", channel="email", outcome="failed") == 0


def test_what_is_unknown_makes_no_labels(counted: Counted) -> None:
    """Neither reasons nor channels without end."""
    counted.count("violation.closed", kind="made-up", reason=["a", "list"])
    for number in range(2 * MOST_CHANNELS):
        counted.count("notice.attempted", channel=f"c{number}", outcome="delivered")
    assert counted("violations_closed_total", kind="other", reason="other") == 1
    assert counted("notice_attempts_total", channel="other", outcome="delivered") == MOST_CHANNELS


def test_a_time_that_is_none_is_no_wait(counted: Counted) -> None:
    """An event that is not valid ends nothing."""
    counted.count("reservation.created", kind="run", started="then", queued="before")
    counted.count("reservation.created", kind="run", started=None, queued=17)
    assert counted("queue_wait_seconds_sum", kind="run") == 0
