"""Two machines of one name on one Redis: one serves, the other ends with the remedy."""

import signal
from pathlib import Path
from typing import Any

from support.daemon import Daemon, until
from support.machines import Host, Make

SCAN = "canhazgpu:{twin}:scan"


def scans(shared: Any, host: Daemon) -> None:
    """Wait for a scan that this service made."""
    before = shared.hget(SCAN, "at_ms")
    until(lambda: shared.hget(SCAN, "at_ms") != before)
    assert host.answers()


def test_a_machine_of_another_id_is_refused(machine: Make, shared: Any) -> None:
    """It writes nothing; the one that was there goes on."""
    first = machine("twin").start()
    assert first.run("reserve", "--gpu-ids", "1").returncode == 0
    owner = shared.hget(SCAN, "owner")
    second = machine("twin")
    line = second.refused()
    assert "is alive under the name twin" in line
    assert "set `host` in the settings" in line
    assert "Traceback" not in second.log.read_text()
    scans(shared, first)
    assert shared.hget(SCAN, "owner") == owner
    assert shared.hlen("canhazgpu:{twin}:reservations") == 1


def test_a_clone_with_the_same_id_is_refused(machine: Make, shared: Any) -> None:
    """It is told by its boot, and how to give it an id of its own."""
    first = machine("twin", "cd" * 16).start()
    line = machine("twin", "cd" * 16).refused()
    assert "a clone of this machine" in line
    assert "systemd-machine-id-setup" in line
    scans(shared, first)


def test_of_two_that_start_at_once_one_serves(machine: Make, shared: Any) -> None:
    """Whoever is faster: exactly one has the name, and the other ends with the one line."""
    both = [machine("twin"), machine("twin")]
    for one in both:
        one.start(wait=False)
    until(lambda: any(one.process and one.process.poll() is not None for one in both), 60)
    (loser,) = [one for one in both if one.process and one.process.poll() is not None]
    (winner,) = [one for one in both if one is not loser]
    assert "is alive under the name twin" in loser.refused()
    scans(shared, winner)
    assert winner.run("reserve", "--gpu-ids", "1").returncode == 0


def test_a_host_that_was_started_anew_has_its_state(machine: Make, shared: Any) -> None:
    """Another boot of a machine whose service was killed: it looks whether that lives, and goes on."""
    host = machine("twin", "ef" * 16).start()
    assert host.run("reserve", "--gpu-ids", "1").returncode == 0
    host.stop(signal.SIGKILL)
    host.has("ef" * 16, "00000000-0000-4000-8000-000000000001")
    host.start()
    assert "GPU 1: IN USE by root" in host.status()
    assert "name_claimed" in host.log.read_text()
    assert b"0000000000004000800" in shared.hget(SCAN, "owner")


def test_a_machine_that_was_installed_anew_has_its_state(machine: Make) -> None:
    """Another machine id, and the one that had the name is gone: its state is taken over, with a warning."""
    host = machine("twin").start()
    assert host.run("reserve", "--gpu-ids", "1").returncode == 0
    host.stop()
    host.has("12" * 16, "00000000-0000-4000-8000-000000000002")
    host.start(wait=False)
    until(host.answers, 60)
    assert "GPU 1: IN USE by root" in host.status()
    assert "name_taken_over" in host.log.read_text()


def test_a_service_that_is_started_again_waits_for_nothing(machine: Make) -> None:
    """The same machine and boot, ended or killed: nothing is waited for."""
    host = machine("twin").start()
    for number in (signal.SIGTERM, signal.SIGKILL):
        host.stop(number)
        host.start()
    assert "waiting_for_name" not in host.log.read_text()


def test_a_second_service_of_one_machine_is_refused(machine: Make) -> None:
    """Also one with a state directory and a socket of its own: its name says which process has the name."""
    first = machine("twin", "34" * 16, "00000000-0000-4000-8000-000000000003").start()
    assert first.process is not None
    second = machine("twin", "34" * 16, "00000000-0000-4000-8000-000000000003")
    assert f"(PID {first.process.pid})" in second.refused()


def test_who_was_taken_for_dead_ends(machine: Make, shared: Any) -> None:
    """A service that stood still while another took its name over writes nothing when it goes on."""
    first = machine("twin").start()
    assert first.process is not None
    first.process.send_signal(signal.SIGSTOP)
    second = machine("twin")
    second.start(wait=False)
    until(second.answers, 60)
    assert second.run("reserve", "--gpu-ids", "1").returncode == 0
    owner = shared.hget(SCAN, "owner")
    first.process.send_signal(signal.SIGCONT)
    assert "is alive under the name twin" in first.refused()
    assert shared.hget(SCAN, "owner") == owner
    scans(shared, second)


def test_a_redis_of_one_s_own_is_never_waited_for(folder: Path) -> None:
    """Nobody else can be alive in the state directory, not even the machine it was copied from."""
    host = Host(folder / "one", "", "twin", "56" * 16, "00000000-0000-4000-8000-000000000004").start()
    assert host.run("reserve", "--gpu-ids", "1").returncode == 0
    host.stop()
    host.has("78" * 16, "00000000-0000-4000-8000-000000000005")
    host.start()
    try:
        assert "GPU 1: IN USE by root" in host.status()
        assert "waiting_for_name" not in host.log.read_text()
        assert "name_taken_over" in host.log.read_text()
    finally:
        host.stop()
