"""A run's GPUs are its own for exactly as long as its processes live, however they end."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.daemon import Daemon, gpu, until, use
from support.eventually import slowness
from support.people import Person, Terminal
from support.runs import SAY, Run

FORKS = f"{SAY} sleep 600 & echo child $!; wait"


def is_free(host: Daemon, index: int = 0) -> bool:
    """Whether a GPU is available."""
    return f"GPU {index}: AVAILABLE (last released" in host.status()


def soon(seconds: int) -> str:
    """Return a time limit within which the command of a run has begun, however busy the machine is."""
    return f"{round(seconds * slowness())}s"


def test_the_end_frees_the_gpu(host: Daemon, runs: list[Run]) -> None:
    """However the process ends, its reservation ends."""
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP):
        runs.append(Run(host, SAY + "exec sleep 600", "--gpu-ids", "0"))
        assert "GPU 0: IN USE by" in host.status()
        runs[-1].end(number)
        until(lambda: is_free(host))


def test_the_next_command_gets_the_gpus_of_the_last_one(host: Daemon) -> None:
    """Runs of the same GPU one after the other, as in a script, do not refuse each other."""
    for _ in range(15):
        assert host.run("run", "--gpu-ids", "0", "--", "true").stderr == ""


def test_a_zombie_holds_nothing(host: Daemon, runs: list[Run]) -> None:
    """A zombie counts as ended."""
    runs.append(Run(host, SAY + "exec sleep 600"))
    os.kill(runs[0].process.pid, signal.SIGKILL)
    until(lambda: is_free(host))
    assert "State:\tZ" in Path(f"/proc/{runs[0].process.pid}/status").read_text()


def test_what_stays_on_the_gpu_keeps_it(host: Daemon, runs: list[Run]) -> None:
    """A child that outlives the run and uses its GPU keeps the reservation until it ends."""
    runs.append(Run(host, FORKS))
    child = int(runs[0].line().split()[1])
    host.place(gpu(0, use(child, 5000)), gpu(1))
    until(lambda: "[validated: 5000MB, 1 processes]" in host.status())
    runs[0].end()
    until(lambda: "lingering) [validated: 5000MB, 1 processes]" in host.status())
    assert host.run("run", "--gpus", "2", "--", "true").returncode == 125
    os.kill(child, signal.SIGKILL)
    until(lambda: is_free(host))
    assert host.facts() == []  # It was never anybody's fault.


def test_a_gpu_that_nobody_uses_yet_is_not_handed_out_again(host: Daemon, runs: list[Run]) -> None:
    """A reserved GPU that is not used yet is not allocated again."""
    runs += [Run(host, SAY + "exec sleep 600"), Run(host, SAY + "exec sleep 600")]
    assert [run.gpus for run in runs] == ["0", "1"]
    assert host.run("run", "--", "true").returncode == 125


def test_the_end_of_one_run_is_not_the_end_of_another(host: Daemon, runs: list[Run]) -> None:
    """Two runs of one user are two reservations, and the end of one does not affect the other."""
    runs += [Run(host, SAY + "exec sleep 600"), Run(host, SAY + "exec sleep 600")]
    runs[0].end()
    until(lambda: is_free(host))
    assert "GPU 1: IN USE by" in host.status()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_of_the_service_changes_nothing(
    host: Daemon, runs: list[Run], number: signal.Signals
) -> None:
    """After a restart of the service, runs are watched again, and ended ones are released."""
    runs += [Run(host, SAY + "exec sleep 600"), Run(host, SAY + "exec sleep 600")]
    host.stop(number)
    runs[1].end()
    host.start()
    until(lambda: is_free(host, 1))
    assert "GPU 0: IN USE by" in host.status()
    host.run("reserve", "--gpu-ids", "1")
    host.stop(number)
    host.start()
    assert "GPU 1: IN USE by root for 0h" in host.status()
    runs[0].end()
    until(lambda: is_free(host, 0))


def test_time_over_is_told_and_ends_the_tree(host: Daemon, people: list[Person]) -> None:
    """--timeout interrupts every process of the run, and the user's terminal shows the reason."""
    alice = people[0]
    terminal = Terminal(alice)
    child = (
        host.folder / "child.py"
    )  # A shell starts it with SIGINT ignored, and it is in a session of its own.
    child.write_text(
        "import signal, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "print('child', flush=True)\n"
        "try: time.sleep(600)\nexcept KeyboardInterrupt: print('second interrupted', flush=True)\n"
    )
    trap = "trap 'echo first interrupted; exit 0' INT; "
    script = f"{trap}setsid {sys.executable} {child} & wait; wait"
    run = Run(host, SAY + script, "--timeout", soon(5), person=alice)
    try:
        run.line()
        rest = run.process.stdout.read().decode() if run.process.stdout else ""
        assert "first interrupted" in rest
        assert "second interrupted" in rest
        until(lambda: "your run on GPU 0 has reached its timeout" in terminal.text)
        until(lambda: is_free(host))
    finally:
        run.end()
        terminal.close()


def test_who_ignores_the_interruption_is_killed(folder: Path) -> None:
    """After `run.grace`, the remaining processes of the run are killed."""
    daemon = Daemon(folder, '[run]\ngrace = "1s"\n').start()
    run = Run(daemon, SAY + "trap '' INT; while :; do sleep 1; done", "--timeout", soon(4))
    try:
        assert run.process.wait(100) == -signal.SIGKILL
        until(lambda: is_free(daemon))
    finally:
        run.end()
        daemon.stop()


def test_what_has_left_the_tree_is_ended_too(folder: Path) -> None:
    """A process whose parent has ended still belongs to the run, and is killed with it."""
    daemon = Daemon(folder, '[run]\ngrace = "1s"\n').start()
    run = Run(daemon, SAY + "(sleep 600 & echo child $!); sleep 600", "--timeout", soon(4))
    other = subprocess.Popen(["sleep", "600"], env={**os.environ, "CANHAZGPU_RESERVATION": "r1-1"})
    try:
        child = int(run.line().split()[1])
        run.process.wait(100)
        until(lambda: not Path(f"/proc/{child}").exists() or "State:\tZ" in status_of(child))
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
        run.end()
        daemon.stop()


def status_of(pid: int) -> str:
    """What the kernel says of a process; nothing of one that is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/status").read_text()
    return ""


@pytest.mark.parametrize("restarted", [False, True])
def test_who_lost_the_reservation_is_not_ended_for_its_time(
    host: Daemon, runs: list[Run], *, restarted: bool
) -> None:
    """A run that was released is not ended by its --timeout, also after a restart of the service."""
    limit = soon(5)
    runs.append(Run(host, SAY + "exec sleep 600", "--timeout", limit))
    assert host.run("release", "--all").returncode == 0
    if restarted:
        host.stop()
        host.start()
    with suppress(subprocess.TimeoutExpired):
        runs[0].process.wait(int(limit[:-1]) + 2)
    assert runs[0].process.poll() is None
    assert "the time of your run" not in host.log.read_text()
    assert '"timeout"' not in host.log.read_text()


def test_a_released_run_goes_on_and_is_told(host: Daemon, people: list[Person]) -> None:
    """`release` leaves runs alone; with --all they lose their GPUs and continue."""
    alice = people[0]
    terminal = Terminal(alice)
    run = Run(host, SAY + "exec sleep 600", person=alice)
    try:
        assert host.run("release", person=alice).stdout.startswith("Nothing to release")
        done = host.run("release", "--all", person=alice)
        assert done.stdout == (
            "Released 1 GPU(s): [0]\nThe command on [0] keeps running without a reservation\n"
        )
        until(lambda: "your run continues, but GPU 0 is no longer reserved for it" in terminal.text)
        assert run.process.poll() is None
        until(lambda: is_free(host))
    finally:
        run.end()
        terminal.close()


@pytest.mark.parametrize("by_force", [False, True])
def test_a_holder_is_told_who_took_it(host: Daemon, people: list[Person], *, by_force: bool) -> None:
    """If an administrator releases a reservation, the holder's terminal says so."""
    alice = people[0]
    host.place(gpu(0), gpu(1))
    until(lambda: "GPU 1: AVAILABLE" in host.status())
    terminal = Terminal(alice)
    try:
        host.run("reserve", person=alice)
        if by_force:
            assert host.run("admin", "init", "--gpu-ids", "1", "--force").returncode == 0
        else:
            host.run("admin", "release", "--user", alice.name)
        until(lambda: "your reservation of GPU 0 was released by root" in terminal.text)
    finally:
        terminal.close()


def test_a_programs_own_reservation(host: Daemon) -> None:
    """`with reserve()` holds GPUs for a block, and releases them also after an exception."""
    program = """
import os
from canhazgpu.client import reserve
before = os.environ.get("CUDA_VISIBLE_DEVICES")
try:
    with reserve(gpus=1, note="a notebook") as held:
        assert os.environ["CUDA_VISIBLE_DEVICES"] == held.devices == "0", held
        print(held.gpus, flush=True)
        input()
        raise KeyError
except KeyError:
    print(os.environ.get("CUDA_VISIBLE_DEVICES") == before)
"""
    process: Any = subprocess.Popen(
        [sys.executable, "-c", program],
        env=host.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "[0]\n"
    assert "GPU 0: IN USE by root" in host.status()
    assert process.communicate("\n")[0] == "True\n"
    until(lambda: is_free(host))
