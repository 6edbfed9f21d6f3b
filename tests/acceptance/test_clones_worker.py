"""`canhazgpu worker` on a clone of a machine, with the same settings and the same Redis."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from support.daemon import PATIENCE, gpu, until, use
from support.machines import Host, Make

IDENT = "cd" * 16
USED = gpu(0, use(999_999, 1024, "bob", "python3"), memory_used_mb=45)


@contextmanager
def worker(host: Host) -> Iterator[list[str]]:
    """The worker of this machine; its log is read after its end."""
    log = host.folder / "worker.log"
    with log.open("wb") as output:
        process = subprocess.Popen([*host.serve, "worker"], env=host.environment, stderr=output)
    said: list[str] = []
    try:
        yield said
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 0
        said += log.read_text().splitlines()


def test_it_takes_nothing_of_the_machine_that_lives(machine: Make, shared: Any) -> None:
    """A worker on a clone waits and says what to do; the notices stay for the right machine."""
    first, clone = machine("twin", IDENT), machine("twin", IDENT)
    first.start("--no-workers")
    first.place(USED)
    until(lambda: shared.xlen("canhazgpu:{twin}:violations"))
    with worker(clone) as said:
        until(lambda: "or of a clone" in (clone.folder / "worker.log").read_text())
        with worker(first):
            until(lambda: len(first.facts()) == 1)
        assert clone.facts() == []
    assert any("set `host` in the settings" in line for line in said)
    assert not any("Traceback" in line for line in said)
