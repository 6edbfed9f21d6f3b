"""The state directory is replaced by an older copy while the service runs."""

import json
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from support.daemon import Daemon, until

PATIENCE = 20


def logged(host: Daemon, event: str) -> list[dict[str, str]]:
    """Return the entries of the service's log."""
    lines = [line for line in host.log.read_text().splitlines() if line.startswith("{")]
    return [entry for entry in map(json.loads, lines) if entry["event"] == event]


def copied(source: Path | str, target: Path) -> None:
    """Copy like an administrator, with sockets and times."""
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


def replace(host: Daemon, older: Path, how: str) -> None:
    """Replace the state by the older copy, at once for the service."""
    with host.paused():
        _replace(host.folder / "state", older, how)


def _replace(state: Path, older: Path, how: str) -> None:
    match how:
        case "exchanged":
            state.rename(state.with_name("away"))
            copied(older, state)
        case "overwritten":
            copied(f"{older}/.", state)
        case "redis":
            shutil.rmtree(state / "redis" / "appendonlydir")
            copied(older / "redis" / "appendonlydir", state / "redis")
        case "journal":
            copied(older / "journal", state / "journal")


def reserved_after_a_copy(host: Daemon) -> Path:
    """Return a copy of the state directory from before there was a reservation."""
    older = host.folder / "older"
    with host.paused():  # No file goes while it is copied.
        copied(host.folder / "state", older)
    assert host.run("reserve", "--duration", "1h").returncode == 0
    return older


@pytest.mark.parametrize("how", ["exchanged", "overwritten", "redis", "journal"])
def test_an_older_copy_loses_nothing(host: Daemon, how: str) -> None:
    """The service logs it, writes its data again, and has them after the next start."""
    older = reserved_after_a_copy(host)
    before = host.run("events", "--json").stdout.splitlines()
    replace(host, older, how)
    if how != "redis":
        until(lambda: logged(host, "journal_replaced"), PATIENCE)
    if how != "journal":
        (entry,) = until(lambda: logged(host, "redis_files_replaced"), PATIENCE)
        assert entry["written_again"]
    if how == "exchanged":
        until(lambda: logged(host, "folder_replaced"), PATIENCE)
    assert not logged(host, "folder_made_anew")
    until(lambda: "IN USE by" in host.status(), PATIENCE)
    assert host.stop() == 0
    host.start()
    assert "IN USE by" in host.status()
    assert host.run("events", "--json").stdout.splitlines()[: len(before)] == before
    assert not logged(host, "redis_lost_state")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("how", ["exchanged", "overwritten"])
def test_reservations_outlive_an_older_copy_before_the_end(
    host: Daemon, how: str, number: signal.Signals
) -> None:
    """A clean stop checks the journal once more; a killed service must have noticed before."""
    older = reserved_after_a_copy(host)
    replace(host, older, how)
    if number == signal.SIGKILL:
        until(lambda: logged(host, "journal_replaced"), PATIENCE)
    assert host.process is not None
    host.process.send_signal(number)
    host.process.wait()
    host.start()
    until(lambda: "IN USE by" in host.status(), PATIENCE)
