"""Many callers at once book, reserve, cancel and release: no GPU is granted twice, promises are kept."""

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from race.test_race import holders, post
from support.daemon import Daemon, gpu, until

pytestmark = [pytest.mark.alone, pytest.mark.timeout(900)]
GPUS = 8
CALLERS = 100
BUSY = 503  # Redis did not answer in time, on a machine that does more than this.


@pytest.fixture
def eight(folder: Path) -> Iterator[Daemon]:
    """A host with eight idle GPUs."""
    daemon = Daemon(folder, "[limits]\nchanges_per_hour = 0\n")
    daemon.place(*(gpu(index, memory_used_mb=45) for index in range(GPUS)))
    daemon.start()
    until(lambda: daemon.status().count("AVAILABLE") == GPUS)
    yield daemon
    daemon.stop()


def stored(daemon: Daemon) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the bookings, the promised windows and the reservations, all of one moment."""
    prefix = "canhazgpu:{testhost}:"
    with daemon.redis() as redis, redis.pipeline() as pipe:
        pipe.hvals(f"{prefix}bookings")
        pipe.hget(f"{prefix}scan", "windows")
        pipe.hvals(f"{prefix}reservations")
        booked, windows, held = pipe.execute()
    return [json.loads(one) for one in booked], json.loads(windows or "[]"), [json.loads(one) for one in held]


def check(daemon: Daemon) -> None:
    """Assert that no GPU has two holders, and that every window has its GPUs when it begins."""
    booked, windows, held = stored(daemon)
    assert {one["id"] for one in booked} == {one["id"] for one in windows}
    taken = Counter(index for one in held for index in one["gpus"])
    assert set(taken.values()) <= {1}
    for window in windows:
        open_then = [one for one in windows if one["begin_ms"] <= window["begin_ms"] < one["end_ms"]]
        lasting = [one for one in held if one.get("expires_ms", 10**15) > window["begin_ms"]]
        needed = sum(one["count"] for one in open_then) + sum(len(one["gpus"]) for one in lasting)
        assert needed <= GPUS, (window, open_then, lasting)


def test_a_hundred_callers_book_and_grant(eight: Daemon) -> None:
    """100 callers at once book, reserve, cancel and release: all promises are kept all the time."""
    begun = time.time()

    def act(turn: int) -> None:
        rng = random.Random(turn)
        kind = turn % 6
        if kind == 0:
            check(eight)
        elif kind in (1, 2):
            begin = datetime.fromtimestamp(begun, UTC) + timedelta(hours=rng.choice((1, 2, 3, 5)))
            body = {
                "begin": begin.isoformat(),
                "duration": f"{rng.randint(1, 4)}h",
                "count": rng.randint(1, 4),
            }
            status, answer = post(eight, "/v1/bookings", body)
            assert status in (201, 409, BUSY), answer
            if status == 201 and turn % 4 == 0:
                assert post(eight, "/v1/bookings/cancel", {"ids": [answer["id"]]})[0] in (200, 404, BUSY)
        elif kind == 3:
            assert post(eight, "/v1/reservations/release", {})[0] in (200, BUSY)
        else:
            body = {"kind": "manual", "duration": f"{rng.choice((30, 100, 400))}m", "wait": False}
            assert post(eight, "/v1/reservations", {**body, "count": rng.randint(1, 4)})[0] in (
                201,
                409,
                BUSY,
            )

    with ThreadPoolExecutor(CALLERS) as crowd:
        assert len(list(crowd.map(act, range(600)))) == 600
    check(eight)
    assert all(len(set(gpus)) == len(gpus) for gpus in holders(eight))


def test_a_hundred_bookings_of_the_same_moment(eight: Daemon) -> None:
    """Of 100 bookings of one GPU for the same hour, eight are made, and all of them begin."""
    begin = datetime.now(UTC) + timedelta(hours=1)
    body = {"begin": begin.isoformat(), "duration": "2h"}
    with ThreadPoolExecutor(CALLERS) as crowd:
        done = list(crowd.map(lambda _: post(eight, "/v1/bookings", body), range(100)))
    assert Counter(status for status, _ in done) == {201: GPUS, 409: 100 - GPUS}
    check(eight)
    shift = round((begin - datetime.now(UTC)).total_seconds() * 1000) + 1000
    booked, windows, _ = stored(eight)
    with eight.redis() as redis, redis.pipeline() as pipe:
        for one in (*booked, *windows):
            one["begin_ms"] -= shift
        pipe.hset("canhazgpu:{testhost}:bookings", mapping={one["id"]: json.dumps(one) for one in booked})
        pipe.hset("canhazgpu:{testhost}:scan", "windows", json.dumps(windows))
        pipe.execute()
    eight.stop()
    eight.start()
    until(lambda: sorted(holders(eight)) == [[index] for index in range(GPUS)], 60)
    assert stored(eight)[0] == []
