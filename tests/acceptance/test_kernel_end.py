"""What releases the reservation of a notebook's kernel, without a notebook."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.daemon import Daemon, until

from canhazgpu.client.jupyter import kernel_reservation
from canhazgpu.client.jupyter.magic import Magic

KERNEL = """
import sys
from canhazgpu.client.jupyter.kernel_end import KernelEnd
end = KernelEnd(sys.argv[1])
print("ready", flush=True)
sys.stdin.read()
"""
BUSY = 3.0  # Seconds of a processor, of which the start of Python takes a part.


def waiting_process(reservation: str) -> Path:
    """Return the directory in /proc of the process that waits for the end of a kernel."""
    wanted = f"canhazgpu.client.jupyter.kernel_end\0{reservation}\0".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            found += [path] if (path / "cmdline").read_bytes().endswith(wanted) else []
        except OSError:  # It has ended.
            continue
    (one,) = found
    return one


def seconds_of_processor(process: Path) -> float:
    """Return how much a process has computed; 0 if it has ended."""
    try:
        fields = (process / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def is_all_free(host: Daemon) -> bool:
    """Return whether nothing is reserved."""
    return not any(one["reservation"] for one in json.loads(host.run("status", "--json").stdout))


def interrupt(_: str) -> None:
    """Do what IPython does when the user interrupts a cell."""
    raise KeyboardInterrupt


def test_a_kernel_that_ends_while_the_service_and_its_settings_are_away(host: Daemon) -> None:
    """The reservation is released when the service is back, and nothing computes until then."""
    granted = json.loads(host.run("reserve", "--json").stdout)
    kernel = subprocess.Popen(
        [sys.executable, "-P", "-c", KERNEL, granted["id"]],
        env=host.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert kernel.stdout
    assert kernel.stdout.readline() == "ready\n"
    waits = waiting_process(granted["id"])
    host.stop()
    settings = host.folder / "config.toml"
    settings.rename(settings.with_suffix(".away"))
    kernel.kill()
    kernel.communicate()
    until(lambda: "nanosleep" in (waits / "wchan").read_text())  # It has tried, and waits to try again.
    settings.with_suffix(".away").rename(settings)
    host.start()
    computed = 0.0

    def is_released() -> bool:
        nonlocal computed
        computed = max(computed, seconds_of_processor(waits))
        return is_all_free(host)

    until(is_released, 30)  # It tries every five seconds.
    until(lambda: not waits.exists())
    assert computed < BUSY


def test_a_cell_that_is_interrupted_leaves_nothing_reserved(
    host: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the GPUs have just been granted, and the kernel does not know the reservation yet."""
    monkeypatch.setenv("CANHAZGPU_CONFIG", host.environment["CANHAZGPU_CONFIG"])
    monkeypatch.setitem(sys.modules, "IPython.core.error", SimpleNamespace(UsageError=ValueError))
    monkeypatch.setattr(kernel_reservation, "KernelEnd", interrupt)
    with pytest.raises(KeyboardInterrupt):
        Magic().run("reserve")
    assert is_all_free(host)
