"""The whole state directory is older or gone when the service starts: what was acknowledged is kept."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.daemon import COMMAND, Daemon, until
from support.live_state import events, four_gpus, holds, journaled_requests, running, take

WAYS = ["older", "removed"]


@pytest.fixture
def host(folder: Path) -> Iterator[Daemon]:
    """A service on four GPUs, with a copy of its state from before anything was reserved."""
    daemon = four_gpus(folder)
    daemon.stop()
    subprocess.run(["cp", "-a", str(folder / "state"), str(folder / "older")], check=True)
    daemon.start()
    yield daemon
    daemon.stop()


@pytest.fixture
def run(host: Daemon) -> Iterator["subprocess.Popen[bytes]"]:
    """A command that runs on GPU 0."""
    with running(host) as process:
        yield process


def logged(host: Daemon, event: str) -> list[dict[str, str]]:
    """Return the entries of the service's log."""
    lines = [line for line in host.log.read_text().splitlines() if line.startswith("{")]
    return [entry for entry in map(json.loads, lines) if entry["event"] == event]


def lose_state(host: Daemon, how: str, number: int = signal.SIGKILL) -> None:
    """End the service, and remove its state or put the older copy in place."""
    with host.redis() as redis:
        server = redis.info("server")["process_id"]
    host.stop(number)
    until(lambda: not Path(f"/proc/{server}").exists())  # It removes its socket when it ends.
    (host.folder / "state").rename(
        host.folder / f"away-{time.monotonic_ns()}"
    )  # Redis may still write there.
    if how == "older":
        subprocess.run(["cp", "-a", str(host.folder / "older"), str(host.folder / "state")], check=True)


def copy_of(host: Daemon) -> Path:
    """Return the copy of the journal beside the socket."""
    return host.folder / "s.journal"


@pytest.mark.parametrize("how", WAYS)
def test_what_was_acknowledged_is_kept(host: Daemon, run: "subprocess.Popen[bytes]", how: str) -> None:
    """With an older state, a run, a manual reservation, a drain and a queued request are kept."""
    take(host, "--gpu-ids", "1", "--duration", "4h", "--note", "paper")
    assert host.run("admin", "drain", "2", "--reason", "fan").returncode == 0
    words = [*COMMAND, "reserve", "--gpus", "3", "--wait"]
    waiter = subprocess.Popen(words, env=host.environment, stderr=subprocess.DEVNULL)
    until(lambda: journaled_requests(host) == 1)
    before = holds(host)
    lose_state(host, how)
    host.start()
    assert holds(host) == before
    assert "GPU 2: DRAINED (fan)" in host.run("status").stdout
    assert [one["uuid"] for one in events(host, "gpu.drained")] == ["GPU-2"]
    assert len(json.loads(host.run("queue", "--json").stdout)) == 1
    waiter.kill()
    waiter.wait()
    done = host.run("reserve", "--gpus", "2", "--nonblock")
    assert done.returncode == 1, done.stdout
    assert {one["id"] for one in events(host, "reservation.restored")} == set(before.values())
    (entry,) = logged(host, "state_rolled_back")
    assert str(copy_of(host)) in entry["reason"]
    assert entry["reason"] in host.run("doctor").stdout
    assert logged(host, "redis_lost_state")
    assert run.poll() is None
    run.kill()
    until(lambda: "GPU 0: AVAILABLE" in host.status())
    host.stop()
    host.start()
    assert list(holds(host)) == [1]
    assert len(logged(host, "state_rolled_back")) == 1


@pytest.mark.parametrize("how", WAYS)
def test_what_ended_stays_ended(host: Daemon, how: str) -> None:
    """With an older state, an ended run, a released reservation and a lifted drain do not come back."""
    take(host, "--gpu-ids", "1")
    assert host.run("admin", "drain", "2").returncode == 0
    host.stop()
    shutil.rmtree(host.folder / "older")
    subprocess.run(["cp", "-a", str(host.folder / "state"), str(host.folder / "older")], check=True)
    host.start()
    assert host.run("release").returncode == 0
    assert host.run("admin", "undrain", "2").returncode == 0
    words = [*COMMAND, "run", "--gpu-ids", "0", "--", "sleep", "600"]
    process = subprocess.Popen(words, env=host.environment, stderr=subprocess.DEVNULL)
    until(lambda: "GPU 0: IN USE by root" in host.status())
    lose_state(host, how)
    process.kill()
    process.wait()
    host.start()
    assert holds(host) == {}
    until(lambda: host.status().count("AVAILABLE") == len(range(4)))


def test_a_backup_without_a_journal_keeps_living_runs(host: Daemon, run: "subprocess.Popen[bytes]") -> None:
    """If only a backup is left, the run and everything newer than the backup are kept."""
    take(host, "--gpu-ids", "1", "--note", "since released")
    file = host.folder / "b"
    assert host.run("backup", str(file)).returncode == 0
    run.kill()
    run.wait()
    until(lambda: "GPU 0: AVAILABLE" in host.status())
    assert host.run("release", "--gpu-ids", "1").returncode == 0
    words = [*COMMAND, "run", "--gpu-ids", "1", "--", "sleep", "600"]
    process = subprocess.Popen(words, env=host.environment, stderr=subprocess.DEVNULL)
    until(lambda: "GPU 1: IN USE by root" in host.status())
    before = holds(host)
    lose_state(host, "removed")
    done = host.run("restore", str(file))
    assert done.returncode == 0, done.stderr
    host.start()
    assert holds(host) == before
    process.kill()
    process.wait()
    until(lambda: "GPU 1: AVAILABLE" in host.status())


@pytest.mark.parametrize("forged", ["owner", "mode", "link"])
def test_a_copy_that_somebody_else_may_have_made_is_ignored(host: Daemon, forged: str) -> None:
    """A copy of another owner, writable by others, or behind a link is ignored and logged."""
    take(host, "--gpu-ids", "1")
    lose_state(host, "removed")
    copy = copy_of(host)
    match forged:
        case "owner":
            os.chown(copy, 65534, -1)
        case "mode":
            copy.chmod(0o620)
        case "link":
            copy.rename(host.folder / "elsewhere")
            copy.symlink_to(host.folder / "elsewhere")
    host.start()
    assert holds(host) == {}
    (entry,) = logged(host, "journal_copy_ignored")
    assert str(copy) in entry["reason"]
    assert not logged(host, "state_rolled_back")
    take(host, "--gpu-ids", "2")
    assert (copy.lstat().st_uid, copy.lstat().st_mode & 0o7777) == (os.geteuid(), 0o600)


def test_the_copy_of_another_boot_is_ignored(host: Daemon) -> None:
    """A copy from another boot is ignored, because all its runs have ended."""
    take(host, "--gpu-ids", "1")
    lose_state(host, "removed")
    boot, _, rest = copy_of(host).read_text().partition("\n")
    copy_of(host).write_text(boot[:-1] + "?\n" + rest)
    host.start()
    assert holds(host) == {}
    (entry,) = logged(host, "journal_copy_ignored")
    assert "another boot" in entry["reason"]
    assert not logged(host, "state_rolled_back")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_says_nothing(host: Daemon, number: int) -> None:
    """After a normal end or a crash, journal and copy agree, and nothing is logged."""
    take(host, "--gpu-ids", "1")
    before = holds(host)
    host.stop(number)
    host.start()
    assert holds(host) == before
    assert not logged(host, "state_rolled_back")
    assert not logged(host, "journal_copy_ignored")


def test_an_administrator_starts_afresh(host: Daemon) -> None:
    """If the state and the copy are removed, the service starts without reservations."""
    take(host, "--gpu-ids", "1")
    lose_state(host, "removed", signal.SIGTERM)
    copy_of(host).unlink()
    host.start()
    assert holds(host) == {}
    assert not logged(host, "state_rolled_back")


def replaced_by_directory(file: Path) -> bool:
    """Put a directory in the place of a file; return False if the service was faster to write it again."""
    file.unlink(missing_ok=True)
    with suppress(FileExistsError):
        file.mkdir()
    return file.is_dir()


def test_a_copy_that_cannot_be_written_is_said(host: Daemon) -> None:
    """If the copy cannot be written, `doctor` says it; it is written once it can be, without a change."""
    until(lambda: replaced_by_directory(copy_of(host)))
    take(host, "--gpu-ids", "1")
    assert str(copy_of(host)) in host.run("doctor").stdout
    copy_of(host).rmdir()
    until(copy_of(host).is_file)
    until(lambda: str(copy_of(host)) not in host.run("doctor").stdout)
    lose_state(host, "removed")
    host.start()
    assert list(holds(host)) == [1]
