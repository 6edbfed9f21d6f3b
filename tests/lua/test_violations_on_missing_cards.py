"""Violations on cards that the driver does not list, with real processes."""

import subprocess
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from support.cards import CardHost
from support.reservations import BOB, process

from canhazgpu.events.gpu import ProcessUse
from canhazgpu.events.linux.processes import start_time_of
from canhazgpu.events.redis_client.store import Store

pytestmark = pytest.mark.anyio


@pytest.fixture
def host(store: Store) -> CardHost:
    """A host without cards."""
    host = CardHost(store)
    host.real = True
    return host


@pytest.fixture
def running() -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that waits."""
    with subprocess.Popen(["/bin/sleep", "600"]) as one:
        yield one
        one.kill()


def used_by(one: subprocess.Popen[bytes], **facts: Any) -> ProcessUse:
    """Return use of a GPU by bob with this process."""
    return msgspec.structs.replace(process(BOB), **{"pid": one.pid, "start": start_time_of(one.pid), **facts})


async def test_it_is_closed_when_its_processes_have_ended(
    host: CardHost, running: subprocess.Popen[bytes]
) -> None:
    """A violation stays open while one of its processes runs, and is closed afterwards."""
    host.uses = {"A": (used_by(running),)}
    for cards in (("A", "B"), ("A", "B"), ("B",), ("B",)):
        await host.scan(*cards)
    assert await host.violating_uids() == {"A": [BOB]}
    assert not await host.published("violation.closed")
    running.kill()
    running.wait()
    await host.scan("B")
    assert await host.violating_uids() == {}
    (closed,) = await host.published("violation.closed")
    assert [closed.data[name] for name in ("reason", "gpu", "gpu_uuid")] == ["stopped", 1, "A"]


async def test_another_process_with_the_pid_does_not_keep_it(
    host: CardHost, running: subprocess.Popen[bytes]
) -> None:
    """A new process with the same pid does not keep it open."""
    host.uses = {"A": (used_by(running, start=1),)}
    for cards in (("A", "B"), ("A", "B"), ("B",)):
        await host.scan(*cards)
    assert await host.violating_uids() == {}


async def test_a_process_that_cannot_be_told_keeps_it(
    host: CardHost, running: subprocess.Popen[bytes]
) -> None:
    """A process whose start is unknown keeps it open."""
    host.uses = {"A": (used_by(running, start=None),)}
    for cards in (("A", "B"), ("A", "B"), ("B",)):
        await host.scan(*cards)
    assert await host.violating_uids() == {"A": [BOB]}


async def test_the_end_of_a_process_on_a_listed_card_waits_for_a_scan_that_sees_it(
    host: CardHost, running: subprocess.Popen[bytes]
) -> None:
    """On a listed card that fails, the end of the process waits for a successful scan."""
    host.uses = {"A": (used_by(running, start=1),)}
    await host.scan("A")
    await host.scan("A")
    await host.scan("A", failing=["A"])
    assert await host.violating_uids() == {"A": [BOB]}
