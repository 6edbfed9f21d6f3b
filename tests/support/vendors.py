"""Hosts of the simulation with AMD GPUs, alone or beside NVIDIA's."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.daemon import gpu
from support.waiters import QueueHost

AMD = {"vendor": "amd", "name": "AMD Instinct MI300X", "memory_used_mb": 20}
UUIDS = ("GPU-1a2b3c4d5e6f7788", "GPU-99aabbccddeeff00")


def amd(index: int, ordinal: int) -> str:
    """Return an AMD GPU of a scenario."""
    return gpu(index, uuid=UUIDS[ordinal], ordinal=ordinal, **AMD)


@contextmanager
def mixed_host(folder: Path) -> Iterator[QueueHost]:
    """Run a service with NVIDIA's GPUs 0 and 1, and AMD's 2 and 3; end what still waits."""
    host = QueueHost(folder)
    host.waiting = []
    host.place(*(gpu(index, memory_used_mb=45) for index in range(2)), amd(2, 0), amd(3, 1))
    host.start()
    try:
        yield host
    finally:
        for process in host.waiting:
            process.kill()
            process.communicate()
        host.stop()
