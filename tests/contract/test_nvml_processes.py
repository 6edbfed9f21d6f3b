"""Processes that the driver lists but /proc does not have, and unusual pids."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.daemon import Daemon, until
from support.nvml import Say

from canhazgpu.service.identity.attribution import Attributor
from canhazgpu.service.providers import nvml, nvml_process
from canhazgpu.service.providers.nvml import NvmlProvider

CARD = "gpu GPU-aaaa H100 81559 45 500\n"
OTHER = "gpu GPU-bbbb H100 81559 45 500\n"


def nobodys() -> int:
    """Return a pid that no process has, far from those in use."""
    last = int(Path("/proc/sys/kernel/pid_max").read_text())
    child = subprocess.Popen(["true"])
    child.wait()
    pid = (child.pid + last // 2) % last or 1
    while Path(f"/proc/{pid}").exists():
        pid -= 1
    return pid


@pytest.mark.anyio
async def test_a_process_that_has_just_ended_is_left_out(say: Say, provider: NvmlProvider) -> None:
    """A process that is missing in /proc at one scan is left out."""
    for _ in range(3):
        say(f"{CARD}proc c {nobodys()} 100\nproc c {os.getpid()} 200\n")
        (gpu,) = await provider.read()
        assert [process.pid for process in gpu.processes] == [os.getpid()]


@pytest.mark.anyio
async def test_what_no_proc_has_at_two_scans_is_an_unknown_process(say: Say, provider: NvmlProvider) -> None:
    """A process that is missing in /proc at two scans is shown as an unknown process with its memory."""
    pid = nobodys()
    dead = f"{CARD}proc c {pid} 300\n"
    say(dead)
    (gpu,) = await provider.read()
    assert gpu.processes == ()
    (gpu,) = await provider.read()
    (process,) = gpu.processes
    assert (process.pid, process.memory_mb, process.unseen) == (pid, 300, True)
    use = Attributor().attribute(process)
    assert use is not None
    assert (use.pid, use.name, use.user, use.memory_mb) == (pid, "unknown process", "unknown", 300)
    assert (use.uid, use.person, use.evidence) == (None, None, "unknown")
    say(CARD)
    await provider.read()
    say(dead)
    assert (await provider.read())[0].processes == ()


@pytest.mark.anyio
async def test_who_has_the_number_of_a_dead_process_is_not_it(
    say: Say, provider: NvmlProvider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A later process with the pid of a dead one is not taken for it while the driver lists the dead one."""
    pid, proc = nobodys(), tmp_path / "proc"
    proc.mkdir()
    monkeypatch.setattr(nvml, "PROC", str(proc))
    say(f"{CARD}proc c {pid} 300\n")
    await provider.read()
    (proc / str(pid)).mkdir()  # Somebody's new process.
    for _ in range(2):
        (process,) = (await provider.read())[0].processes
        assert process.unseen
    say(CARD)
    await provider.read()
    say(f"{CARD}proc c {pid} 300\n")
    (process,) = (await provider.read())[0].processes
    assert not process.unseen  # It is on the GPU itself now.


@pytest.mark.anyio
async def test_two_cards_are_two_looks(say: Say, provider: NvmlProvider) -> None:
    """A pid is counted for each card separately."""
    pid = nobodys()
    say(f"{CARD}proc c {pid} 300\n{OTHER}")
    await provider.read()
    say(f"{CARD}{OTHER}proc c {pid} 300\n")
    assert [gpu.processes for gpu in await provider.read()] == [(), ()]


def test_a_dead_process_that_keeps_its_memory_is_shown_and_counts(nvml_host: Daemon, say: Say) -> None:
    """A dead process whose memory is still in use is shown, counts as use, and blocks the GPU."""
    pid = nobodys()
    say(f"{CARD}proc c {pid} 20000\n")
    nvml_host.start()
    use = f"IN USE WITHOUT RESERVATION by user unknown - 20000MB used by PID {pid} (unknown process)"
    until(lambda: nvml_host.status() == f"GPU 0: {use}\n")
    refused = nvml_host.run("reserve", "--nonblock")
    assert "1 GPU in use without reservation" in refused.stderr


@pytest.mark.anyio
async def test_a_pid_above_what_was_the_last_is_believed_once_it_can_be_one(
    say: Say, provider: NvmlProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If kernel.pid_max is raised, higher pids are accepted from then on."""
    pid_max = tmp_path / "pid_max"
    pid_max.write_text(f"{os.getpid() - 1}\n")
    program = "import sys; from canhazgpu.service.providers import nvml_helper"
    program += "; nvml_helper.PID_MAX = sys.argv.pop(1); nvml_helper.main()"
    monkeypatch.setattr(nvml_process, "COMMAND", [sys.executable, "-c", program, str(pid_max)])
    say(f"{CARD}proc c {os.getpid()} 300\n")
    (gpu,) = await provider.read()
    assert gpu.unknown == f"the driver's process list is invalid (PID {os.getpid()})"
    pid_max.write_text("4194304\n")
    (gpu,) = await provider.read()
    assert (gpu.unknown, [process.pid for process in gpu.processes]) == (None, [os.getpid()])
