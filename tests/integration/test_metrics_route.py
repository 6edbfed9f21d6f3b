"""What the API has for monitoring: the figures in one answer, attempts as they happen, what was trimmed."""

import json
import os
import signal
from typing import Any

import pytest
from support.daemon import Daemon, until
from support.streams import fill

from canhazgpu.client import Client, Refused
from canhazgpu.config.settings import Settings
from canhazgpu.events.envelope import Event
from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.api.redaction import Viewer
from canhazgpu.service.routes.event_routes.event_filter import EventFilter
from canhazgpu.service.routes.event_routes.event_stream import feed
from canhazgpu.service.storage.retention import Retention

ROOT = Viewer(admin=True, user="root", key="uid:0")
ANN = Viewer(admin=False, user="ann", key="uid:1001")
MANY = 101_000
ATTEMPT = {
    "notice": "n1",
    "kind": "opened",
    "channel": "email",
    "recipient": "bob@example.com",
    "outcome": "delivered",
    "attempt": 1,
    "time": "2026-11-30T10:00:00.000Z",
}


def event(data: dict[str, Any]) -> Event:
    """Return an event of an attempt."""
    return Event(
        id="1-1",
        source="//test/canhazgpu",
        type="canhazgpu.notice.attempted",
        subject="notice/n1",
        time="2026-11-30T10:00:00.000Z",
        data=data,
    )


async def seen(store: Store, viewer: Viewer) -> list[dict[str, Any]]:
    """Return what a viewer reads of the attempts."""
    lines = feed(store, "0-0", EventFilter(), viewer, follow=False, stream="deliveries")
    return [json.loads(line) async for line in lines]


@pytest.mark.anyio
async def test_attempts_are_read_without_the_addresses_of_others(store: Store) -> None:
    """As from the list of deliveries; an entry that is no attempt is left out."""
    for data in (ATTEMPT, {"notice": "only"}):
        fields: Any = event(data).to_fields()
        await store.redis.xadd(store.keys.deliveries, fields)
    (shown,), (whole,) = await seen(store, ANN), await seen(store, ROOT)
    assert (shown["data"]["recipient"], shown["data"]["outcome"]) == ("b…@example.com", "delivered")
    assert whole["data"]["recipient"] == "bob@example.com"
    assert whole["type"] == "canhazgpu.notice.attempted"


@pytest.mark.anyio
async def test_what_was_trimmed_is_counted(store: Store) -> None:
    """From the start of the service, for each stream."""
    kept = Retention(Settings(host=store.keys.host), store)
    for total in (MANY - 100_000, 2 * MANY - 100_000):
        await fill(store, store.keys.events, MANY, total - (MANY - 100_000))
        await kept.trim_all()
        assert kept.report
        trimmed = {row.stream: row.trimmed for row in kept.report.streams}
        assert total - 100 <= trimmed.pop("events") <= total  # Trimming leaves part of a node.
        assert set(trimmed.values()) == {0}


def test_the_figures_come_in_one_answer(lasting_host: Daemon) -> None:
    """Those of the status, of the last scan, of Redis and of the streams."""
    client = Client(str(lasting_host.folder / "s"))
    nothing = ("stalled", "redis_trouble", "journal_weakness", "restored_at")

    def quiet() -> Any:
        answer = client.get("/v1/metrics")
        return answer["streams"] and not any(answer[name] for name in nothing) and answer

    found = until(quiet)
    assert [row["gpu_id"] for row in found["gpus"]] == [0, 1, 2, 3]
    assert found["queue"] == found["bookings"] == found["redis_weaknesses"] == []
    assert 0 < found["scan_duration_s"] < 60
    assert 0 <= found["scan_age_s"] < 60
    assert [found[name] for name in nothing] == [None] * 4


def test_bookings_are_counted_while_redis_is_down(host: Daemon) -> None:
    """From the journal then; one whose begin has passed is late."""
    client = Client(str(host.folder / "s"))
    for begin, gpus in (("+2h", "1"), ("+1s", "1")):
        done = host.run("reserve", "--gpus", gpus, "--begin", begin, "--duration", "1h")
        assert done.returncode == 0, done.stderr
    planned = {"count": 1, "late": False}
    until(lambda: client.get("/v1/metrics")["bookings"] == [planned])  # The other one has begun.
    with host.redis() as redis:
        pid = redis.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        found = until(lambda: (found := client.get("/v1/metrics"))["redis_trouble"] and found)
        assert found["bookings"] == [planned]
    finally:
        os.kill(pid, signal.SIGCONT)


def test_another_stream_is_refused(lasting_host: Daemon) -> None:
    """With those that there are: notices say more than everybody may see."""
    with pytest.raises(Refused, match="`stream` is not one of events, deliveries") as no:
        list(Client(str(lasting_host.folder / "s")).lines("/v1/events?stream=notices"))
    assert no.value.status == 400
