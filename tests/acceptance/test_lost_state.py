"""Redis loses acknowledged data: nothing is allocated twice, and everything is restored."""

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.daemon import COMMAND, Daemon, until
from support.live_state import events, four_gpus, holds, journaled_requests, running, take


@pytest.fixture
def host(folder: Path) -> Iterator[Daemon]:
    """A service on four GPUs."""
    daemon = four_gpus(folder)
    yield daemon
    daemon.stop()


@pytest.fixture
def run(host: Daemon) -> Iterator["subprocess.Popen[bytes]"]:
    """A command that runs on GPU 0."""
    with running(host) as process:
        yield process


def test_a_wiped_redis_hands_out_nothing_that_is_held(host: Daemon, run: "subprocess.Popen[bytes]") -> None:
    """After a wipe, a live run, a manual reservation and a drained GPU are restored."""
    take(host, "--gpu-ids", "1", "--duration", "4h", "--note", "paper")
    assert host.run("admin", "drain", "2", "--reason", "fan").returncode == 0
    before = holds(host)
    with host.redis() as redis:
        redis.flushall()
    done = host.run("reserve", "--gpus", "2")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stdout
    assert "Available: 1" in done.stderr
    assert holds(host) == before
    assert {one["id"] for one in events(host, "reservation.restored")} == set(before.values())
    assert [one["note"] for one in events(host, "reservation.restored") if one["kind"] == "manual"] == [
        "paper"
    ]
    told = host.run("status")
    assert "GPU 2: DRAINED (fan)" in told.stdout
    assert told.stderr.startswith("Warning: Redis had lost its state at 20")
    assert told.stderr.endswith(" UTC: 2 reservations were restored (canhazgpu doctor)\n")
    run.kill()
    until(lambda: "GPU 0: AVAILABLE" in host.status())
    assert "redis_lost_state" in host.log.read_text()


def test_a_wipe_is_noticed_within_a_scan(host: Daemon) -> None:
    """The restoration needs no request."""
    take(host, "--gpu-ids", "1")
    before = holds(host)
    with host.redis() as redis:
        redis.flushall()
    until(lambda: events(host, "reservation.restored"))
    assert holds(host) == before


def test_an_older_copy_of_the_state_is_brought_up_to_date(host: Daemon, folder: Path) -> None:
    """After Redis was set back, newer reservations, releases and extensions are kept."""
    for index in ("0", "1", "2"):
        take(host, "--gpu-ids", index, "--duration", "4h")
    host.stop()
    shutil.copytree(folder / "state" / "redis", folder / "older", ignore=shutil.ignore_patterns("*.sock"))
    host.start()
    assert host.run("release", "--gpu-ids", "0").returncode == 0
    assert host.run("extend", "--gpu-ids", "1", "--duration", "2h").returncode == 0
    take(host, "--gpu-ids", "3")
    before = {row["gpu_id"]: row["reservation"] for row in json.loads(host.run("status", "--json").stdout)}
    host.stop()
    shutil.rmtree(folder / "state" / "redis")
    (folder / "older").rename(folder / "state" / "redis")
    host.start()
    after = {row["gpu_id"]: row["reservation"] for row in json.loads(host.run("status", "--json").stdout)}
    assert after[0] is None
    assert [after[index]["id"] for index in (1, 2, 3)] == [before[index]["id"] for index in (1, 2, 3)]
    assert after[1]["expires"] == before[1]["expires"]
    assert [one["reason"] for one in events(host, "reservation.released")] == ["stale"]


def test_a_run_that_ended_meanwhile_is_not_brought_back(host: Daemon, folder: Path) -> None:
    """If the service was down and the process has ended, the GPU is free."""
    words = [*COMMAND, "run", "--gpu-ids", "0", "--", "sleep", "600"]
    process = subprocess.Popen(words, env=host.environment, stderr=subprocess.DEVNULL)
    until(lambda: "GPU 0: IN USE by root" in host.status())
    take(host, "--gpu-ids", "1")
    host.stop()
    process.kill()
    process.wait()
    shutil.rmtree(folder / "state" / "redis")
    host.start()
    assert list(holds(host)) == [1]


@pytest.mark.parametrize("last", ["release", "extend"])
def test_what_was_answered_last_is_in_the_journal(host: Daemon, folder: Path, last: str) -> None:
    """If only the journal is left, the last release and extension are kept."""
    take(host, "--gpu-ids", "0", "--duration", "4h")
    assert host.run(last).returncode == 0
    before = {row["gpu_id"]: row["reservation"] for row in json.loads(host.run("status", "--json").stdout)}
    host.stop(signal.SIGKILL)
    shutil.rmtree(folder / "state" / "redis")
    host.start()
    after = {row["gpu_id"]: row["reservation"] for row in json.loads(host.run("status", "--json").stdout)}
    assert [one and one["expires"] for one in after.values()] == [
        one and one["expires"] for one in before.values()
    ]


def test_who_waits_keeps_the_place(host: Daemon) -> None:
    """After a wipe, waiting requests are served in their order."""
    take(host, "--gpus", "4")
    waiters = []
    for name in ("first", "second"):
        words = [*COMMAND, "reserve", "--gpus", "4", "--wait", "--json", "--note", name]
        waiters.append(subprocess.Popen(words, env=host.environment, stdout=subprocess.PIPE))
        until(lambda: journaled_requests(host) == len(waiters))
    with host.redis() as redis:
        redis.flushall()
    until(lambda: events(host, "reservation.restored"))
    queued = json.loads(host.run("queue", "--json").stdout)
    assert [one["note"] for one in queued] == ["first", "second"]
    assert host.run("release").returncode == 0
    for waiter, name in zip(waiters, ("first", "second"), strict=True):
        out, _ = waiter.communicate(timeout=60)
        assert json.loads(out)["note"] == name
        assert host.run("release").returncode == 0


def test_a_damaged_journal_is_kept_and_said(host: Daemon, folder: Path) -> None:
    """A damaged journal is reported in the log and by `doctor`, and Redis keeps its data."""
    take(host, "--gpu-ids", "1")
    before = holds(host)
    host.stop()
    journal = folder / "state" / "journal"
    journal.write_bytes(b"garbage\n" * 3)
    host.start()
    assert holds(host) == before
    assert journal.with_name("journal.broken").read_bytes() == b"garbage\n" * 3
    assert f"the journal {journal} was damaged" in host.run("doctor").stdout
    assert "journal_damaged" in host.log.read_text()


def test_data_beyond_repair_are_restored_from_the_journal(host: Daemon, folder: Path) -> None:
    """A damaged manifest does not prevent the start: reservations are restored, and `doctor` says it."""
    take(host, "--gpu-ids", "1")
    before = holds(host)
    host.stop()
    manifest = folder / "state" / "redis" / "appendonlydir" / "appendonly.aof.manifest"
    if not manifest.exists():
        pytest.skip("this server has one file")
    manifest.write_bytes(b"")
    host.start()
    assert holds(host) == before
    assert "the damaged data are in" in host.run("doctor").stdout


def blocked(path: Path) -> bool:
    """Make a directory where the service creates a file; return False if the file is there right now."""
    with suppress(FileExistsError):
        path.mkdir()
    return path.is_dir()


def test_a_journal_that_cannot_be_written_is_said(host: Daemon, folder: Path) -> None:
    """If the journal cannot be written, reservations continue, and health reports the weakness."""
    journal = folder / "state" / "journal"
    until(lambda: blocked(journal.with_suffix(".new")))
    journal.unlink()
    take(host, "--gpu-ids", "1")
    assert "journal" in host.run("doctor").stdout
    journal.with_suffix(".new").rmdir()
    take(host, "--gpu-ids", "2")
    assert "journal_back" in host.log.read_text()
    assert journal.exists()
