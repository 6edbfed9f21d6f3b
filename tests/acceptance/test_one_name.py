"""Two machines with one name on one Redis: one serves, the other ends with the remedy."""

import signal
from pathlib import Path
from typing import Any

from support.daemon import Daemon, until
from support.machines import Host, Make

SCAN = "canhazgpu:{twin}:scan"


def scans(shared: Any, host: Daemon) -> None:
    """Wait for a scan of this service."""
    before = shared.hget(SCAN, "at_ms")
    until(lambda: shared.hget(SCAN, "at_ms") != before)
    assert host.answers()


def test_a_machine_of_another_id_is_refused(machine: Make, shared: Any) -> None:
    """The second machine writes nothing, and the first continues."""
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
    """A clone is recognised by its boot, and the error says how to give it its own id."""
    first = machine("twin", "cd" * 16).start()
    second = machine("twin", "cd" * 16)
    second.look_longer()
    line = second.refused()
    assert "a clone of this machine" in line
    assert "systemd-machine-id-setup" in line
    scans(shared, first)


def test_of_two_that_start_at_once_one_serves(machine: Make, shared: Any) -> None:
    """If both start at the same time, exactly one serves."""
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
    """After a reboot, the service takes its state over if the old one is not alive."""
    host = machine("twin", "ef" * 16).start()
    assert host.run("reserve", "--gpu-ids", "1").returncode == 0
    host.stop(signal.SIGKILL)
    host.has("ef" * 16, "00000000-0000-4000-8000-000000000001")
    host.start()
    assert "GPU 1: IN USE by root" in host.status()
    assert "name_claimed" in host.log.read_text()
    assert b"0000000000004000800" in shared.hget(SCAN, "owner")


def test_a_machine_that_was_installed_anew_has_its_state(machine: Make) -> None:
    """If the owner is gone, another machine takes its state over, with a warning."""
    host = machine("twin").start()
    assert host.run("reserve", "--gpu-ids", "1").returncode == 0
    host.stop()
    host.has("12" * 16, "00000000-0000-4000-8000-000000000002")
    host.start(wait=False)
    until(host.answers, 60)
    assert "GPU 1: IN USE by root" in host.status()
    assert "name_taken_over" in host.log.read_text()


def test_a_service_that_is_started_again_waits_for_nothing(machine: Make) -> None:
    """After a restart on the same boot, nothing is waited for."""
    host = machine("twin").start()
    for number in (signal.SIGTERM, signal.SIGKILL):
        host.stop(number)
        host.start()
    assert "waiting_for_name" not in host.log.read_text()


def test_a_second_service_of_one_machine_is_refused(machine: Make) -> None:
    """A second service on the same machine is refused, and the error names the process of the first."""
    first = machine("twin", "34" * 16, "00000000-0000-4000-8000-000000000003").start()
    assert first.process is not None
    second = machine("twin", "34" * 16, "00000000-0000-4000-8000-000000000003")
    assert f"(PID {first.process.pid})" in second.refused()


def test_who_was_taken_for_dead_ends(machine: Make, shared: Any) -> None:
    """A service that was stopped while another took over writes nothing when it continues."""
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
    """An embedded Redis belongs to the machine with the state directory, so nothing is waited for."""
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
