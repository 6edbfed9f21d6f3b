"""`canhazgpu report` with a real service: the table, charts on a terminal, JSON, CSV and mistakes."""

import csv
import io
import json
import os
import pty
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.daemon import COMMAND, Daemon, gpu, until, use
from support.people import Person
from support.programs import need

from canhazgpu.events.timestamps import ms_of

HOSTILE = "\x1b[31m=cmd|' /C calc'!A0"
FIELDS = ("active_s", "idle_s", "unused_s", "unseen_s")
PARTS = (*FIELDS, "unreserved_s", "free_s", "out_of_service_s", "unknown_s")


@pytest.fixture(scope="module")
def busy() -> Iterator[Daemon]:
    """Three GPUs: one reserved and idle, one used by somebody with a hostile name, one free."""
    with tempfile.TemporaryDirectory(prefix="chg-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        daemon = Daemon(folder, '[report]\nidle_after = "0s"\n').start()
        daemon.place(
            gpu(0, use(999_998, 1024, "bob", "python3"), utilization_percent=0),
            gpu(1, use(999_999, 1024, HOSTILE, "python3"), utilization_percent=90),
            gpu(2, memory_used_mb=45),
        )
        until(lambda: daemon.status().count("WITHOUT RESERVATION") == 2)
        assert daemon.run("reserve", "--gpu-ids", "2", "--duration", "1h").returncode == 0
        until(lambda: answer(daemon)["total"]["unused_s"] > 1)
        yield daemon
        daemon.stop()


def answer(host: Daemon, *words: str) -> Any:
    """Return the report as JSON."""
    done = host.run("report", "--json", *words)
    assert (done.returncode, done.stderr) == (0, ""), done
    return json.loads(done.stdout)


def test_what_was_used_and_what_was_reserved(busy: Daemon) -> None:
    """One GPU is reserved and unused, the others are used without a reservation; it all adds up."""
    found = answer(busy, "--by", "gpu")
    rows = {row["gpu_id"]: row for row in found["rows"]}
    assert rows[2]["unused_s"] > 1
    assert rows[0]["unreserved_s"] > 1
    assert rows[1]["unreserved_s"] > 1
    for row in found["rows"]:
        assert row["reserved_s"] == pytest.approx(sum(row[field] for field in FIELDS))
    for field in PARTS:
        assert found["total"][field] == pytest.approx(sum(row[field] for row in found["rows"]))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found["since"])


def test_the_table_has_a_row_for_each_user(busy: Daemon) -> None:
    """A name cannot write on the terminal."""
    done = busy.run("report")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert done.stdout.splitlines()[2].split() == [
        "USER", "RESERVED", "ACTIVE", "IDLE", "UNUSED", "UNSEEN", "UNRESERVED", "WAITED",
    ]  # fmt: skip
    assert r"\x1b[31m=cmd" in done.stdout
    assert "used without reservation" in done.stdout
    for by in ("gpu", "day", "hour", "host"):
        text = busy.run("report", "--by", by).stdout
        assert text.splitlines()[2].startswith(by.upper()), text


def test_of_one_user(busy: Daemon, people: list[Person]) -> None:
    """--user and --mine leave only those hours in rows, sums and charts, whatever the rows are about."""
    whole = {row["key"]: row for row in answer(busy)["rows"]}
    for words in (("--mine",), ("--user", "root"), ("-u", "0")):
        found = answer(busy, *words)
        assert [row["key"] for row in found["rows"]] == ["root"]
        assert found["total"]["unused_s"] >= whole["root"]["unused_s"] > 0
        assert found["total"]["free_s"] == found["total"]["unreserved_s"] == 0
    assert {row["gpu_id"] for row in answer(busy, "--mine", "--by", "gpu")["rows"]} == {2}
    theirs = answer(busy, "--user", "bob", "--by", "day")
    assert theirs["total"]["unreserved_s"] >= whole["bob"]["unreserved_s"] > 0
    assert sum(row["unreserved_s"] for row in theirs["rows"]) == theirs["total"]["unreserved_s"]
    assert theirs["total"]["reserved_s"] == 0
    text = busy.run("report", "--user", "bob", "--by", "gpu").stdout
    assert text.startswith("GPU-hours of bob on testhost, ")
    assert "FREE" not in text
    nobody = busy.run("report", "--mine", person=people[0])
    assert nobody.stdout.endswith("\n\nNothing was reserved, used or waited for in this period.\n"), nobody
    done = busy.run("report", "--mine", "--user", "bob")
    assert (done.returncode, done.stderr) == (2, "Error: --user and --mine cannot be used together\n")


def test_csv_is_for_spreadsheets(busy: Daemon) -> None:
    """It has one row for each user, in seconds, and no cell is a formula."""
    rows = list(csv.DictReader(io.StringIO(busy.run("report", "--csv").stdout)))
    assert {*PARTS, "key", "uid", "gpu_id", "reserved_s", "waiting_s", "trespass_s"} == rows[0].keys()
    assert {row["key"] for row in rows} >= {"root"}
    assert not [row for row in rows if row["key"][:1] in "=+-@"]
    text = busy.run("report", "--by", "hour", "--since", "1s", "--csv").stdout
    hours = [row["key"] for row in csv.DictReader(io.StringIO(text))]
    assert len(hours) in (1, 2)  # The second may have begun in another hour.
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", hour) for hour in hours), hours


def on_a_terminal(host: Daemon, *words: str, **environment: str) -> str:
    """Return what a command writes to a terminal of 80 columns."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *words],
        env={**host.environment, "PYTHONIOENCODING": "utf-8", **environment},
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    shown = b""
    with suppress(OSError):  # A terminal without a writer ends with an error.
        while data := os.read(leader, 65536):
            shown += data
    os.close(leader)
    assert process.wait(60) == 0
    return shown.decode()


def test_a_terminal_shows_bars_and_the_week(busy: Daemon) -> None:
    """Each user has a bar that fits, and each weekday a line; a pipe gets neither."""
    bright = on_a_terminal(busy, "report")
    assert "\x1b[31m" in bright
    plain = on_a_terminal(busy, "report", NO_COLOR="1")
    assert "\x1b" not in plain
    lines = plain.replace("\r\n", "\n").splitlines()
    assert any(line.startswith("root ") and "▒" in line for line in lines)
    assert [line[:3] for line in lines if re.match(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun) ", line)] == [
        "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun",
    ]  # fmt: skip
    assert max(len(line) for line in lines if "▒" in line or "▚" in line) <= 80
    ascii_only = on_a_terminal(busy, "report", NO_COLOR="1", PYTHONIOENCODING="ascii")
    assert ascii_only.isascii()
    assert "▒" not in busy.run("report").stdout


def test_memory_that_is_kept_is_held_idle(folder: Path) -> None:
    """The holder's GPU at low utilisation is held idle; the JSON of the status says who holds it."""
    daemon = Daemon(folder, '[report]\nidle_after = "0s"\n').start()
    try:
        assert daemon.run("reserve", "--gpus", "1", "--duration", "1h").returncode == 0
        daemon.place(gpu(0, use(os.getpid(), 8000), memory_used_mb=8000, utilization_percent=0))
        until(lambda: answer(daemon, "--by", "host")["total"]["idle_s"] > 0.5)
    finally:
        daemon.stop()


def test_a_kill_loses_no_second(folder: Path) -> None:
    """The service and its Redis are killed and start again: the reservation counts from its start."""
    daemon = Daemon(folder, scan="20s").start()  # Three of them may be missed: a start takes its time.
    try:
        assert daemon.run("reserve", "--gpus", "1", "--duration", "1h").returncode == 0
        until(lambda: answer(daemon)["total"]["unused_s"] > 1)
        for _ in range(2):
            daemon.stop(signal.SIGKILL)
            daemon.start()
        found = answer(daemon)
        (held,) = json.loads(daemon.run("status", "--json").stdout)
        began = ms_of(held["reservation"]["started"])
        seconds = (ms_of(found["until"]) - began) / 1000
        assert found["total"]["reserved_s"] == pytest.approx(seconds, abs=0.002)
        assert found["total"]["unseen_s"] == found["total"]["unknown_s"] == 0
    finally:
        daemon.stop()


def test_a_period_and_its_mistakes(busy: Daemon) -> None:
    """Times are local ones; what cannot be understood is a usage error of one line."""
    assert answer(busy, "--days", "2", "--by", "day")["by"] == "day"
    assert answer(busy, "--since", "today")["total"]["unknown_s"] == 0
    empty = busy.run("report", "--since", "2020-01-01", "--until", "2020-01-02")
    assert "Nothing is known about this period." in empty.stdout
    for words in (
        ("--days", "0"),
        ("--days", "x"),
        ("--days", "1", "--since", "1d"),
        ("--since", "tomorrow"),
        ("--since", "1d", "--until", "2d"),
        ("--by", "x"),
        ("--json", "--csv"),
    ):
        done = busy.run("report", *words)
        assert (done.returncode, done.stdout) == (2, ""), words
        assert len(done.stderr.splitlines()) == 1, done.stderr


def test_everybody_sees_the_hours_of_everybody(busy: Daemon, people: list[Person]) -> None:
    """As in the status, which has the same names."""
    done = busy.run("report", "--json", person=people[0])
    assert {row["key"] for row in json.loads(done.stdout)["rows"]} >= {"root"}


def test_days_are_those_of_the_reader(busy: Daemon) -> None:
    """A day begins at midnight of TZ, and the table says which zone it is in."""
    environment = {**busy.environment, "TZ": "Asia/Kolkata"}
    words = [*COMMAND, "report", "--by", "day", "--days", "2"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    days = [line.split()[:3] for line in done.stdout.splitlines() if re.match(r"\d{4}-", line)]
    assert [day[1:] for day in days[1:]] == [["00:00", "IST"]] * (len(days) - 1)
    assert len(days) == 3


@pytest.mark.parametrize("page", ["users.md", "administrators.md"])
def test_the_examples_of_the_manual_work(busy: Daemon, tmp_path: Path, page: str) -> None:
    """Each line with `report` in a page ends with 0, as it stands."""
    need("jq")
    text = (Path(__file__).parents[2] / "docs" / page).read_text()
    lines = re.findall(r"^    (canhazgpu report.*)$", text, re.MULTILINE)
    assert len(lines) >= 4
    (tmp_path / "canhazgpu").write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    (tmp_path / "canhazgpu").chmod(0o755)
    environment = {**busy.environment, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for line in lines:
        words = ["bash", "-o", "pipefail", "-c", line]
        done = subprocess.run(
            words, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), (line, done)
