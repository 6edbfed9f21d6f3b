"""A run whose container has not begun to run its program when the run ends."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.control_groups import container_name, control_group, needs_cgroups
from support.daemon import Daemon, until

from canhazgpu.events.linux.processes import Process, start_time_of
from canhazgpu.service.reservations.detached_containers import starting_containers

# What runc's first process in a container does: it waits to be told, and runs the program of the container.
RUNTIME = """
import os, sys
open("/proc/self/comm", "w").write("runc:[2:INIT]")
print(flush=True)
os.execvpe("sleep", ["sleep", "600"], {**os.environ, "CANHAZGPU_RESERVATION": sys.stdin.readline().strip()})
"""
pytestmark = [  # Runs of tests beside these would wait for these containers, too.
    pytest.mark.docker,
    pytest.mark.skipif(os.getuid() != 0, reason="only root may start containers"),
    needs_cgroups,
]


class Starting(NamedTuple):
    """A container whose program does not run yet: its process, its control group, and who tells it to."""

    process: Process
    group: Path
    runtime: "subprocess.Popen[str]"

    def begin(self, reservation: str) -> None:
        """Run the program, with this reservation in its environment."""
        assert self.runtime.stdin
        self.runtime.stdin.write(f"{reservation}\n")
        self.runtime.stdin.close()
        carried = f"CANHAZGPU_RESERVATION={reservation}\0".encode()
        until(lambda: carried in Path(f"/proc/{self.process.pid}/environ").read_bytes())


@contextmanager
def starting() -> Iterator[Starting]:
    """Start such a container; it ends with the block."""
    with control_group(container_name()) as group:
        words = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", RUNTIME]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout
                assert process.stdout.readline() == "\n"
                (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
                (group / "cgroup.procs").write_text(child)
                began = start_time_of(int(child))
                assert began is not None
                yield Starting(Process(int(child), began), group, process)
            finally:
                process.kill()


def status(host: Daemon) -> dict[str, Any]:
    """Return GPU 0."""
    return dict(json.loads(host.run("status", "--json").stdout)[0])


def held(host: Daemon) -> str | None:
    """Return the reservation of GPU 0, two scans from now."""
    for _ in range(2):
        before = status(host)["scanned_at"]
        until(lambda before=before: status(host)["scanned_at"] > before)  # type: ignore[misc]
    found = status(host)["reservation"]
    return str(found["id"]) if found else None


def test_a_container_that_is_being_started_keeps_the_gpu_of_its_run(host: Daemon) -> None:
    """`docker run --detach` ends before the container has the run's id, which then keeps the GPU."""
    with starting() as container:
        reservation = host.run("run", "--", "sh", "-c", 'echo "$CANHAZGPU_RESERVATION"').stdout.strip()
        assert held(host) == reservation
        container.begin(reservation)
        assert held(host) == reservation
    until(lambda: status(host)["status"] == "AVAILABLE")


def test_only_young_containers_are_being_started() -> None:
    """A process counts in a container, while it is the runtime's, and if it is not older than that."""
    with starting() as container:
        process, group, _ = container
        start = process.start
        assert process in starting_containers(start)
        assert process not in starting_containers(start + 1)
        (group.parent / "cgroup.procs").write_text(str(process.pid))
        assert process not in starting_containers(start)
        (group / "cgroup.procs").write_text(str(process.pid))
        assert process in starting_containers(start)
        container.begin("another")
        assert process not in starting_containers(start)
