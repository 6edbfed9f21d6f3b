"""Bookings on the command line: made, listed, kept, cancelled, and turned into reservations."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.daemon import COMMAND, Daemon, gpu, until
from support.people import Person
from support.waiters import QueueHost, four_gpus

from canhazgpu.cli.reservations.bookings import EPILOG
from canhazgpu.client import Client
from canhazgpu.client.reservations import post

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def two(folder: Path) -> Iterator[Daemon]:
    """A host with two idle GPUs."""
    daemon = Daemon(folder)
    daemon.place(gpu(0), gpu(1))
    daemon.start()
    yield daemon
    daemon.stop()


@pytest.fixture
def four(folder: Path) -> Iterator[QueueHost]:
    """A host with four idle GPUs."""
    with four_gpus(folder) as daemon:
        yield daemon


def booked(host: Daemon) -> list[dict[str, Any]]:
    """Return the bookings."""
    rows: list[dict[str, Any]] = json.loads(host.run("bookings", "--json").stdout)
    return rows


def reserved(host: Daemon) -> list[dict[str, Any]]:
    """Return the live reservations."""
    rows: list[dict[str, Any]] = json.loads(host.run("reservations", "--json").stdout)
    return rows


def book(host: Daemon, *words: str, **options: Any) -> dict[str, Any]:
    """Book GPUs and return the booking."""
    done = host.run("reserve", *words, "--json", **options)
    assert done.returncode == 0, done.stderr
    row: dict[str, Any] = json.loads(done.stdout)
    return row


def move(host: Daemon, name: str, by: timedelta) -> None:
    """Move a booking to another time, in Redis; a service that is started again takes notice."""
    keys = ("canhazgpu:{testhost}:bookings", "canhazgpu:{testhost}:scan")
    with host.redis() as redis, redis.pipeline() as pipe:
        one, windows = json.loads(redis.hget(keys[0], name)), json.loads(redis.hget(keys[1], "windows"))
        for moved in (one, *windows):
            for field in ("begin_ms", "end_ms"):
                moved[field] += round(by.total_seconds() * 1000)
        pipe.hset(keys[0], name, json.dumps(one))
        pipe.hset(keys[1], "windows", json.dumps(windows))
        pipe.execute()


def error(done: "subprocess.CompletedProcess[str]") -> str:
    """Return the error of a command that was refused."""
    assert done.returncode in (1, 125), done.stdout  # 125: `run` was refused.
    assert done.stdout == ""
    return done.stderr


def test_a_booking_is_listed_and_cancelled(two: Daemon, people: list[Person]) -> None:
    """A booking is listed with its begin in UTC, and its user, or an administrator, can cancel it."""
    row = book(two, "--gpus", "2", "--begin", "+2h", "--duration", "4h", "--note", "course", person=people[0])
    begin, end = (datetime.fromisoformat(row[name]) for name in ("begin", "end"))
    assert end - begin == timedelta(hours=4)
    assert timedelta(hours=1, minutes=50) < begin - datetime.now(UTC) <= timedelta(hours=2)
    assert [one["id"] for one in booked(two)] == [row["id"]]
    shown = two.run("bookings").stdout
    assert row["id"] in shown
    assert "course" in shown
    assert "belongs to" in error(two.run("cancel", row["id"], person=people[1]))
    done = two.run("cancel", row["id"], person=people[0])
    assert done.stdout.startswith(f"Cancelled the booking {row['id']} of {people[0].name}: 2 GPU(s) from ")
    assert two.run("bookings").stdout == "Nothing is booked.\n"
    again = book(two, "--begin", "+2h", person=people[0])
    assert two.run("cancel", again["id"], "--user", people[0].name).returncode == 0


def test_a_run_without_a_limit_is_told_until_when(two: Daemon) -> None:
    """A run that would last into a booking is refused with the time until which it could last."""
    book(two, "--gpus", "2", "--begin", "+3h", "--duration", "1h")
    said = error(two.run("run", "--gpus", "1", "--", "true"))
    assert "Available: 0 (2 GPUs booked - run 'canhazgpu bookings' for details)" in said
    assert "they are free: add --timeout 2h5" in said
    assert "add --duration 2h5" in error(two.run("reserve"))
    assert "GPU 1 is booked" in error(two.run("reserve", "--gpu-ids", "1"))
    assert two.run("run", "--gpus", "2", "--timeout", "2h", "--", "true").returncode == 0
    assert two.run("reserve", "--duration", "2h").returncode == 0
    assert "needed for a booking" in error(two.run("extend", "2h"))


def test_a_booking_begins_in_time(two: Daemon, people: list[Person]) -> None:
    """A booking whose time has come is a reservation of its user, until the end of its window."""
    row = book(two, "--begin", "+2s", "--duration", "1h", "--note", "now", person=people[0])
    until(lambda: reserved(two) != [], 60)
    (held,) = reserved(two)
    assert (held["user"], held["kind"], held["note"]) == (people[0].name, "manual", "now")
    assert held["expires"] == row["end"]
    assert held["started"] >= row["begin"]
    assert booked(two) == []
    assert two.run("release", person=people[0]).returncode == 0


def test_a_late_booking_takes_the_gpu_that_becomes_free(two: Daemon) -> None:
    """If a GPU is in use at the begin, the booking is late until the GPU is idle, and then gets it."""
    row = book(two, "--gpus", "2", "--begin", "+1h", "--duration", "4h")
    move(two, row["id"], timedelta(hours=-2))
    two.stop()
    two.place(gpu(0, memory_used_mb=900), gpu(1))
    two.start()
    until(lambda: [one["late"] is not None for one in booked(two)] == [True], 60)
    assert reserved(two) == []
    assert "LATE " in two.run("bookings").stdout
    assert "1 GPU in use without reservation, 1 GPU booked" in error(two.run("reserve"))
    two.place(gpu(0), gpu(1))
    until(lambda: [one["gpus"] for one in reserved(two)] == [[0, 1]], 60)
    expires = datetime.fromisoformat(reserved(two)[0]["expires"])
    assert expires == datetime.fromisoformat(row["end"]) - timedelta(hours=2)


def test_what_cannot_be_promised_names_other_times(two: Daemon) -> None:
    """A booking that is refused says when GPUs are free for as long."""
    first = book(two, "--gpus", "2", "--begin", "+3h", "--duration", "2h")
    said = error(two.run("reserve", "--begin", "+4h", "--duration", "1h"))
    assert "1 GPU(s) cannot be promised from " in said
    end = datetime.fromisoformat(first["end"]).astimezone() + timedelta(seconds=59)
    assert f"free for as long from: {end:%Y-%m-%d %H:%M} " in said
    book(two, "--gpus", "2", "--begin", f"{end:%Y-%m-%d %H:%M}", "--duration", "1h")
    said = error(two.run("reserve", "--begin", "+1h", "--duration", "8d"))
    assert "a booking can be 7d long, not 8d" in said
    short = two.run("reserve", "--begin", "+1h", "--duration", "30s")
    assert "a booking is at least a minute long" in short.stderr


def test_a_repeated_request_gets_the_booking_that_it_made(two: Daemon) -> None:
    """If the response was lost, the client asks again, and others may have joined the queue."""
    assert two.run("reserve", "--gpus", "2", "--duration", "2h").returncode == 0
    body = {"count": 2, "begin": f"{datetime.now(UTC) + timedelta(hours=3):%Y-%m-%dT%H:%M:00Z}"}
    sent = {**body, "duration": "1h", "operation": "0123456789abcdef"}
    client = Client(f"{two.folder}/s")
    first = post(client, "/v1/bookings", sent)
    assert two.run("reserve", "--gpus", "2", "--duration", "9h", "--nonblock").returncode != 0
    assert post(client, "/v1/bookings", sent)["id"] == first["id"]
    assert len(booked(two)) == 1


def test_what_this_host_cannot_have_blames_nobody_who_waits(four: QueueHost) -> None:
    """More GPUs than there are, GPUs that do not exist, and those that are taken anyway."""
    assert four.run("reserve", "--gpus", "4", "--duration", "9h").returncode == 0
    four.stand("run", "--new", "--gpus", "1", "--wait", "--", "true")
    many = four.run("reserve", "--begin", "+1h", "--gpus", "9")
    assert "9 GPUs were requested, but this host has 4" in many.stderr
    assert "there is no GPU 7" in four.run("reserve", "--begin", "+1h", "--gpu-ids", "7").stderr
    assert "cannot be promised" in error(four.run("reserve", "--begin", "+1h", "--duration", "1h"))


def test_the_examples_of_the_help(two: Daemon) -> None:
    """Each does what it says, with the id of a booking that exists."""
    found = [line.strip() for line in EPILOG.splitlines() if " canhazgpu " in line]
    assert len(found) == 5
    name = book(two, "--gpus", "1", "--begin", "+1h", "--duration", "1h")["id"]
    (two.folder / "canhazgpu").write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    (two.folder / "canhazgpu").chmod(0o755)
    for line in found:
        code = re.sub(r"b\d+-\d+", name, line)
        path = f"{two.folder}:{os.environ['PATH']}"
        done = subprocess.run(
            ["sh", "-c", code],
            cwd=two.folder,
            env={**two.environment, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), code
    assert (two.folder / "gpus.ics").read_text().count("BEGIN:VEVENT") == 1
    assert [one["count"] for one in booked(two)] == [2]


def test_a_booking_delays_nobody_who_waits(four: QueueHost) -> None:
    """A booking is refused if it would take GPUs that a request in the queue is going to get."""
    assert four.run("reserve", "--gpus", "4", "--duration", "2h").returncode == 0
    four.stand("reserve", "--gpus", "4", "--duration", "4h", "--wait")
    said = error(four.run("reserve", "--begin", "+3h", "--duration", "1h"))
    assert "would delay waiting requests of root" in said
    expected = four.queue()[0]["expected"]
    book(four, "--gpus", "4", "--begin", "+7h", "--duration", "1h")
    assert four.queue()[0]["expected"] == expected


def test_who_waits_for_a_booking_is_told(four: QueueHost) -> None:
    """A request that waits because of a booking is shown with the begin of that."""
    row = book(four, "--gpus", "4", "--begin", "+3h", "--duration", "1h")
    four.stand("reserve", "--gpus", "1", "--duration", "5h", "--wait")
    (waiting,) = four.queue()
    assert waiting["reason"].startswith("needs 1 of 4: 4 free; booked from ")
    assert waiting["expected"] == row["end"]
    assert four.run("cancel", row["id"]).returncode == 0
    until(lambda: four.queue() == [], 60)


def test_a_restart_keeps_bookings(two: Daemon) -> None:
    """A booking survives a restart of the service, and begins although its time came meanwhile."""
    row = book(two, "--begin", "+2s", "--duration", "1h")
    two.stop()
    begin = datetime.fromisoformat(row["begin"])
    until(lambda: datetime.now(UTC) > begin, 60)
    two.start()
    until(lambda: [one["expires"] for one in reserved(two)] == [row["end"]], 60)


def test_a_wiped_redis_loses_no_booking(two: Daemon) -> None:
    """A booking that Redis has lost is restored from the journal, and its GPUs are promised as before."""
    row = book(two, "--gpus", "2", "--begin", "+3h", "--duration", "1h")
    with two.redis() as redis:
        redis.flushall()
    until(lambda: [one["id"] for one in booked(two)] == [row["id"]], 60)
    assert "2 GPUs booked" in error(two.run("run", "--", "true"))


def test_a_grant_is_journaled_with_the_bookings_of_its_time(two: Daemon) -> None:
    """A grant that follows a cancelled booking does not bring the booking back when Redis is wiped."""
    row = book(two, "--gpus", "2", "--begin", "+3h", "--duration", "1h")
    with two.redis() as redis:  # As another answer that is still on its way.
        redis.hdel("canhazgpu:{testhost}:bookings", row["id"])
        redis.hdel("canhazgpu:{testhost}:scan", "windows")
    assert two.run("reserve", "--gpus", "2", "--duration", "8h").returncode == 0
    with two.redis() as redis:
        redis.flushall()
    until(lambda: [one["gpus"] for one in reserved(two)] == [[0, 1]], 60)
    assert booked(two) == []


def test_words_that_are_no_time(two: Daemon) -> None:
    """A begin that is no time, has passed, or is too far ahead is refused in one line."""
    for words, said in (
        (("--begin", "soon"), "'soon' is not a time: use +2h"),
        (("--begin", "25:00"), "25:00 is not a time of day"),
        (("--begin", "2020-01-01 9:00"), "this time has passed"),
        (("--begin", "+400d"), "at most 30d from now"),
        (("--begin", "+1h", "--wait"), "cannot be used together"),
        (("--begin", "+1h", "--gpus", "3"), "3 GPUs were requested, but this host has 2"),
    ):
        done = two.run("reserve", *words)
        assert done.returncode in (1, 2)
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert os.fsencode(two.run("reserve", "--begin", "now", "--short").stdout) == b"0\n"
