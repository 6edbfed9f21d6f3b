"""Users are told about their bookings: before the begin, at the begin, and if it is late or was missed."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.daemon import Daemon, gpu, until

pytestmark = pytest.mark.timeout(600)
NOTICES = "canhazgpu:{testhost}:notices"


@pytest.fixture
def host(folder: Path) -> Iterator[Daemon]:
    """A host with two GPUs that reminds users three seconds before a booking begins."""
    daemon = Daemon(folder, more='[bookings]\nremind = "3s"\n')
    daemon.place(gpu(0), gpu(1))
    daemon.start()
    yield daemon
    daemon.stop()


def book(host: Daemon, *words: str) -> str:
    """Book GPUs for a minute; return the id."""
    done = host.run("reserve", "--duration", "1m", "--json", *words)
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["id"])


def told(host: Daemon) -> list[tuple[str, dict[str, Any]]]:
    """Return the kinds of the notices about bookings, with the bookings."""
    with host.redis() as redis:
        notices = [json.loads(fields[b"data"]) for _, fields in redis.xrange(NOTICES)]
    return [(one["kind"], one["booking"]) for one in notices if one.get("booking")]


def kinds(host: Daemon) -> list[str]:
    """Return the kinds of the notices about bookings."""
    return [kind for kind, _ in told(host)]


def test_a_reminder_and_the_begin(host: Daemon) -> None:
    """One reminder, and one notice with the GPUs; a booking made later than its reminder has none."""
    book(host, "--begin", "+6s", "--note", "thesis")
    book(host, "--begin", "+2s")
    until(lambda: len(told(host)) >= 3, 60)
    assert sorted(kinds(host)) == ["booking-begun", "booking-begun", "booking-reminder"]
    reminder = next(one for kind, one in told(host) if kind == "booking-reminder")
    assert (reminder["note"], reminder["gpus"]) == ("thesis", None)
    begun = [one["gpus"] for kind, one in told(host) if kind == "booking-begun"]
    assert sorted(begun) == [[0], [1]]
    host.pass_scans()
    assert len(told(host)) == 3


def test_a_reminder_is_sent_once(host: Daemon) -> None:
    """Also if the service is started again in between."""
    name = book(host, "--begin", "+1h")
    keys = "canhazgpu:{testhost}:bookings"
    with host.redis() as redis:
        one = json.loads(redis.hget(keys, name))
        begin = datetime.now(UTC) + timedelta(seconds=60)
        one["begin_ms"] = round(begin.timestamp() * 1000)
        one["created_ms"] -= 3_600_000
        redis.hset(keys, name, json.dumps(one))
    host.stop()
    config = host.folder / "config.toml"
    config.write_text(config.read_text().replace('remind = "3s"', 'remind = "10m"'))
    host.start()
    until(lambda: kinds(host) == ["booking-reminder"], 60)
    host.stop()
    host.start()
    host.pass_scans()
    assert kinds(host) == ["booking-reminder"]


def test_a_late_booking_names_what_is_in_the_way(host: Daemon) -> None:
    """The notice says which GPUs are not available, and why."""
    host.place(gpu(0, memory_used_mb=900), gpu(1))
    until(lambda: "GPU 0: IN USE WITHOUT RESERVATION" in host.status(), 60)
    book(host, "--gpus", "1", "--begin", "+5s")
    assert host.run("admin", "drain", "1").returncode == 0
    until(lambda: kinds(host)[-1:] == ["booking-late"], 60)
    reasons = {one["gpu"]: one["why"] for one in told(host)[-1][1]["obstacles"]}
    assert reasons == {0: "in_use", 1: "drained"}
