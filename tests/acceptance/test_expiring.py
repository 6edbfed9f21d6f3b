"""The end of a reservation is announced in time, and idle reservations are reported and released."""

import json
import math
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from support.daemon import COMMAND, Daemon, gpu, until, use
from support.eventually import slowness
from support.people import Person

from canhazgpu.events.envelope import decode


def told(host: Daemon, verb: str) -> list[dict[str, Any]]:
    """Return the events of reservations with this verb."""
    with host.redis() as redis:
        events = [decode(fields) for _, fields in redis.xrange("canhazgpu:{testhost}:events")]
    return [
        {"time": event.time, "data": event.data}
        for event in events
        if event.type == f"canhazgpu.reservation.{verb}"
    ]


def status(host: Daemon) -> list[dict[str, Any]]:
    """Return the simulated GPUs with these processes."""
    rows: list[dict[str, Any]] = json.loads(host.run("status", "--json").stdout)
    return rows


def between(first: str, second: str) -> float:
    """Return the seconds between two times."""
    return (datetime.fromisoformat(second) - datetime.fromisoformat(first)).total_seconds()


def made(folder: Path, **settings: int) -> Daemon:
    """A service on two idle GPUs with these settings of notices, in seconds."""
    daemon = Daemon(folder)
    config = folder / "config.toml"
    more = "".join(f'{name} = "{seconds}s"\n' for name, seconds in settings.items())
    config.write_text(config.read_text().replace("[notices]\n", f"[notices]\n{more}"))
    daemon.place(gpu(0), gpu(1))
    return daemon.start()


@pytest.fixture
def pace() -> int:
    """How many seconds a second is in this test: each step has to be done before the next moment comes."""
    return math.ceil(slowness())


@pytest.fixture
def warns(folder: Path, pace: int) -> Iterator[Daemon]:
    """A service that announces an end eight seconds before."""
    daemon = made(folder, expiry_warning=8 * pace)
    yield daemon
    daemon.stop()


@pytest.fixture
def idles(folder: Path, pace: int) -> Iterator[Daemon]:
    """A service that reports idle reservations after four seconds, and releases them eight seconds later."""
    daemon = made(folder, idle_after=4 * pace, idle_release=8 * pace)
    yield daemon
    daemon.stop()


@pytest.mark.slow(30)
def test_an_end_is_announced_in_time(warns: Daemon, pace: int) -> None:
    """An end is announced once, again after an extension, and not for short reservations."""
    warns.run("reserve", "--gpu-ids", "0", "--duration", f"{18 * pace}s")
    warns.run("reserve", "--gpu-ids", "1", "--duration", f"{15 * pace}s")
    until(lambda: told(warns, "expiring"), 60)
    assert warns.run("extend", "--gpu-ids", "0", "--duration", f"{9 * pace}s").returncode == 0
    until(lambda: len(told(warns, "released")) == 2, 60)
    events = told(warns, "expiring")
    assert [event["data"]["gpus"] for event in events] == [[0], [0]]
    for event in events:
        assert event["data"]["deadline"] == event["data"]["expires"]
        assert 4 * pace < between(event["time"], event["data"]["deadline"]) < 8 * pace + 0.5
    assert {event["data"]["reason"] for event in told(warns, "released")} == {"expired"}


@pytest.mark.slow(30)
def test_a_crash_repeats_and_misses_nothing(folder: Path, pace: int) -> None:
    """After a restart, missed announcements are made, and made ones are not repeated."""
    host = made(folder, expiry_warning=12 * pace)
    try:
        lasts = f"{24 * pace}s"
        row = json.loads(host.run("reserve", "--gpu-ids", "0", "--duration", lasts, "--json").stdout)
        host.stop(signal.SIGKILL)
        due = datetime.fromisoformat(row["expires"]).timestamp() - 12 * pace
        until(lambda: time.time() > due, 60)
        host.start()
        (event,) = until(lambda: told(host, "expiring"))
        assert event["data"]["deadline"] == row["expires"]
        assert 0 < between(event["time"], row["expires"]) < 12 * pace
        host.stop(signal.SIGKILL)
        host.start()
        until(lambda: told(host, "released"), 60)
        assert len(told(host, "expiring")) == 1
    finally:
        host.stop()


def test_only_a_holders_own_use_keeps_it(idles: Daemon, people: list[Person], pace: int) -> None:
    """A holder who uses the GPU keeps it; one who does not gets an event, and another when use resumes."""
    alice, bob = people
    hers, his = alice.spawn("sleep", "600"), bob.spawn("sleep", "600")
    idles.run("reserve", "--gpu-ids", "0", person=alice)
    idles.place(gpu(0, use(hers.pid, 900)), gpu(1))
    idles.run("reserve", "--gpu-ids", "1", person=alice)
    (event,) = until(lambda: told(idles, "idle"))
    assert event["data"]["gpus"] == [1]
    assert 4 * pace - 0.7 < between(event["data"]["idle"], event["time"]) < 8 * pace
    assert between(event["time"], event["data"]["deadline"]) == pytest.approx(8 * pace, abs=0.01)
    idles.place(gpu(0, use(hers.pid, 900)), gpu(1, use(hers.pid, 900)))
    until(lambda: told(idles, "used"))
    assert [one["reservation"]["idle_s"] for one in status(idles)] == [None, None]
    idles.place(gpu(0, use(his.pid, 900)), gpu(1, use(hers.pid, 900)))
    (event,) = until(lambda: told(idles, "released"), 60)
    assert (event["data"]["gpus"], event["data"]["reason"]) == ([0], "idle")
    assert "idle" not in idles.status()
    assert idles.run("release", person=alice).stdout == "Released 1 GPU(s): [1]\n"


def test_what_is_idle_is_shown_and_released_at_its_deadline(idles: Daemon, pace: int) -> None:
    """Release follows at the deadline; runs and GPUs with unexplained memory are not released."""
    idles.place(gpu(0), gpu(1), gpu(2, memory_used_mb=0))
    until(lambda: "GPU 2: AVAILABLE" in idles.status())
    with subprocess.Popen(
        [*COMMAND, "run", "--gpu-ids", "1", "--", "sleep", "600"], env=idles.environment
    ) as run:
        try:
            until(lambda: "GPU 1: IN USE" in idles.status())
            idles.run("reserve", "--gpu-ids", "2")
            idles.place(gpu(0), gpu(1), gpu(2, memory_used_mb=900))
            idles.run("reserve", "--gpu-ids", "0")
            until(lambda: len({event["data"]["id"] for event in told(idles, "idle")}) > 1)
            rows = status(idles)
            assert [row["reservation"]["idle_s"] is not None for row in rows] == [True, True, False]
            idle = {event["data"]["kind"]: event for event in told(idles, "idle")}
            (event,) = until(lambda: told(idles, "released"), 60)
            deadline = idle["manual"]["data"]["deadline"]
            assert 0 <= between(deadline, event["time"]) < 4 * pace
            assert (event["data"]["gpus"], event["data"]["reason"]) == ([0], "idle")
            assert "deadline" not in idle["run"]["data"]
            until(lambda: "GPU 0: AVAILABLE (last released" in idles.status())
            assert [row["status"] for row in status(idles)][1:] == ["IN_USE", "IN_USE"]
        finally:
            run.kill()


def test_a_crash_tells_nobody_twice_that_it_is_idle(folder: Path) -> None:
    """After a restart, the service continues with the stored deadline."""
    host = made(folder, idle_after=1)
    try:
        host.run("reserve", "--gpu-ids", "0")
        until(lambda: told(host, "idle"))
        host.stop(signal.SIGKILL)
        host.start()
        until(lambda: (status(host)[0]["reservation"]["idle_s"] or 0) >= 2)
        assert len(told(host, "idle")) == 1
    finally:
        host.stop()
