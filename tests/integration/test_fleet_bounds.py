"""What a hostile host can do to those who read the fleet: real values on a real server."""

import json
from typing import Any

import pytest
from structlog.testing import capture_logs
from support.fleet import USAGE, put, read
from support.fleet_fixtures import server as server  # noqa: PLC0414 - a fixture, as is the next one
from support.fleet_fixtures import url as url  # noqa: PLC0414
from support.redis_lab import Server

from canhazgpu.events.redis_client.fleet_copy import MOST_BYTES, MOST_GPUS, MOST_ROWS, CopyState
from canhazgpu.events.redis_client.keys import Keys
from canhazgpu.service.fleet.search import Wanted, found
from canhazgpu.service.fleet.views import VIEWS, host_line, host_view

pytestmark = pytest.mark.anyio
HUGE = 100 * 2**20


async def test_a_huge_value_is_not_read(url: str, server: Server) -> None:
    """Of a value of any size, the reader gets a few megabytes at most, says so, and shows the others."""
    for name in ("a", "z"):
        await put(url, name)
    with server.client() as admin:
        admin.setrange(Keys("bad").fleet_state, HUGE, b"x")
        before: Any = admin.info("stats")
        copies = await read(url)
        after: Any = admin.info("stats")
    assert [(copy.host, copy.away) for copy in copies] == [
        ("a", ""),
        ("bad", "the copy of bad cannot be read: it is larger than 4 MiB"),
        ("z", ""),
    ]
    assert after["total_net_output_bytes"] - before["total_net_output_bytes"] < 2 * MOST_BYTES


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("gpus", {number: {} for number in range(MOST_GPUS + 1)}),
        ("queue", {b"%d" % number: b"{}" for number in range(MOST_ROWS + 1)}),
        ("reservations", {b"%d" % number: b"{}" for number in range(MOST_ROWS + 1)}),
        ("open", {b"%d" % number: b"{}" for number in range(MOST_ROWS + 1)}),
        ("silences", {b"%d" % number: b"{}" for number in range(MOST_ROWS + 1)}),
    ],
)
async def test_too_many_rows_are_not_looked_at(url: str, name: str, values: Any) -> None:
    """A host with more GPUs, requests and so on than there can be is shown without its state."""
    await put(url, "bad", **{name: values})
    (copy,) = await read(url)
    assert copy.away.startswith("the copy of bad cannot be read: ")
    assert f"$.{name}" in copy.away
    assert copy.snapshot.gpus == ()


async def test_the_largest_state_is_shown_whole(url: str) -> None:
    """A state of many megabytes is read in full, if it is not too large."""
    usage = json.loads(USAGE)
    words = "x" * 3000
    gpus = {
        number: {b"usage": json.dumps({**usage, "index": number, "name": words}).encode()}
        for number in range(MOST_GPUS)
    }
    waiting = {"kind": "manual", "user": "u", "uid": 1, "queued_ms": 1, "count": 1, "attached": True}
    queue = {
        b"%d" % number: json.dumps({**waiting, "id": str(number), "place": number}).encode()
        for number in range(MOST_ROWS)
    }
    await put(url, "large", gpus=gpus, queue=queue)
    (copy,) = await read(url)
    assert (copy.away, copy.is_large) == ("", True)
    assert {name: len(host_view(copy, name)[name]) for name in VIEWS} == {
        "counts": 5,
        "gpus": MOST_GPUS,
        "queue": MOST_ROWS,
        "reservations": 0,
        "violations": 0,
    }
    assert [row["gpus"] for row in found([copy], Wanted(1, ""))] == [MOST_GPUS]


async def test_nonsense_of_another_host_is_not_logged(url: str) -> None:
    """A host cannot fill the logs of those who read the fleet."""
    rows = {b"%d" % number: b"nonsense" for number in range(100)}
    await put(url, "bad", gpus={0: {b"usage": b"{"}}, queue=rows, reservations=rows, open=rows, silences=rows)
    with capture_logs() as lines:
        (copy,) = await read(url)
    assert (copy.away, copy.snapshot.gpus, lines) == ("", (), [])


@pytest.mark.parametrize(
    "values",
    [
        {"copy": CopyState(seen_ms=10**17, at_ms=0, interval_ms=1, scan_interval_ms=1)},
        {"copy": CopyState(seen_ms=0, at_ms=10**17, interval_ms=10**17, scan_interval_ms=1)},
        {"scan": {b"at_ms": b"1" + b"0" * 40}},
        {"gpus": {0: {b"usage": USAGE, b"last_released": b"9" * 30}}},
    ],
)
async def test_times_that_cannot_be_hide_no_other(url: str, values: Any) -> None:
    """Whatever a host says of times, the others are shown and found."""
    await put(url, "a")
    await put(url, "bad", **values)
    copies = await read(url)
    for name in VIEWS:
        lines = [json.loads(host_line(copy, name)) for copy in copies]
        assert [line["host"] for line in lines] == ["a", "bad"]
        assert lines[0]["away"] is None
    assert "a" in [row["host"] for row in found(copies, Wanted(1, "")) if row["now"]]
