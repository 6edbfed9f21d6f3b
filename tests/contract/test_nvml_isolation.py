"""A card at which the library crashes or hangs, or that is lost or returns, does not hide the others."""

import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import anyio
import pytest
from support.nvml import HANGING, PatientProvider, Say

from canhazgpu.events.gpu import GpuReading
from canhazgpu.service.providers import nvml, nvml_reinit
from canhazgpu.service.providers.nvml import CRASHES, HANGS, NvmlProvider
from canhazgpu.service.providers.nvml_process import Helper
from canhazgpu.service.providers.provider import ProviderError, Starting

pytestmark = pytest.mark.anyio
A, B, C = (f"gpu GPU-{name} H100 81559 45 500\n" for name in ("aaaa", "bbbb", "cccc"))
Readings = tuple[GpuReading, ...]
FIRST = 0.05


@pytest.fixture
async def keen(patient: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[NvmlProvider]:
    """A provider with short pauses."""
    del patient
    monkeypatch.setattr(nvml_reinit, "FIRST", FIRST)
    made = PatientProvider(devices=tmp_path / "devices")
    yield made
    await made.aclose()


class Started(NamedTuple):
    """A helper that was started: its process and its time."""

    pid: int
    at: float


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Started]:
    """The helpers that were started."""
    found: list[Started] = []

    def start() -> Helper:
        helper = Helper()
        found.append(Started(helper.pid, time.monotonic()))
        return helper

    monkeypatch.setattr(nvml, "Helper", start)
    return found


async def until(provider: NvmlProvider, condition: Callable[[Readings], bool]) -> Readings:
    """Read, like a scanner, until the condition holds."""
    with anyio.fail_after(120):
        while True:
            with suppress(ProviderError):
                readings = await provider.read()
                if condition(readings):
                    return readings
            await anyio.sleep(0.02)


def states(readings: Readings) -> list[str | None]:
    """Return the error of each card."""
    return [one.error or one.unknown for one in readings]


async def test_a_card_at_which_the_library_crashes_is_left_out(say: Say, keen: NvmlProvider) -> None:
    """If the library crashes at a card, the same scan has all others, and the card with the reason."""
    say(f"{A}{B}crash\n{C}")
    for _ in range(3):
        readings = await keen.read()
        assert states(readings) == [None, CRASHES, None]
        assert [one.uuid for one in readings] == ["GPU-aaaa", "GPU-bbbb", "GPU-cccc"]
        assert readings[1].remedy
        assert readings[2].memory_used_mb == 45


async def test_so_is_one_that_crashes_before_it_says_who_it_is(say: Say, keen: NvmlProvider) -> None:
    """A card that crashes before its UUID is known is left out by its index."""
    say(f"{A}{B}crash handle\n{C}")
    readings = await keen.read()
    assert states(readings) == [None, CRASHES, None]
    assert readings[1].uuid == "unknown-1"


async def test_two_that_crash_are_both_left_out(say: Say, keen: NvmlProvider) -> None:
    """Two cards that crash are both left out in one scan."""
    say(f"{A}crash\n{B}{C}crash\n")
    assert states(await keen.read()) == [CRASHES, None, CRASHES]


@pytest.mark.usefixtures("keen", "hanging")
async def test_a_card_that_hangs_is_left_out(say: Say, keen: NvmlProvider) -> None:
    """If a card hangs, the scan ends in time with the others, and later scans leave the card out."""
    say(A + B + C)
    await keen.read()
    say(f"{A}{B}hang 600\n{C}")
    began = time.monotonic()
    readings = await keen.read()
    assert time.monotonic() - began < HANGING + 60  # It hangs for ten minutes.
    assert states(readings) == [None, HANGS, "not read: another GPU hangs"]
    assert [one.uuid for one in readings] == ["GPU-aaaa", "GPU-bbbb", "GPU-cccc"]
    assert states(await until(keen, lambda found: found[2].unknown is None)) == [None, HANGS, None]


@pytest.mark.usefixtures("hanging")
async def test_a_card_that_hangs_from_the_first_is_left_out(say: Say) -> None:
    """If a card hangs at the first scan, that scan fails and a later one has the others."""
    say(f"{A}hang 600\n{B}")
    provider = NvmlProvider(patience=0.5)
    with pytest.raises(ProviderError, match="no answer"):
        await provider.read()
    await until(provider, lambda found: states(found) == [HANGS, None])
    await provider.aclose()


@pytest.mark.usefixtures("hanging")
async def test_no_more_helpers_are_left_behind_than_two(
    say: Say, started: list[Started], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most two helpers that cannot be killed are left behind."""
    say(A + B)
    provider = NvmlProvider()
    await until(provider, lambda found: states(found) == [None, None])
    with monkeypatch.context() as kernel:
        kernel.setattr(Helper, "has_exited", lambda _: False)
        say(f"{A}hang 600\n{B}")
        assert (await provider.read())[0].error == HANGS
        await until(provider, lambda found: states(found) == [HANGS, None])
        say(f"{A}hang 600\n{B}hang 600\n")
        assert states(await provider.read()) == [HANGS, HANGS]
        for _ in range(3):
            with pytest.raises(ProviderError, match="no answer"):
                await provider.read()
        assert len(started) == 2
    await until(provider, lambda found: states(found) == [HANGS, HANGS])
    await provider.aclose()


async def test_a_driver_that_is_slow_to_start_is_waited_for(say: Say, started: list[Started]) -> None:
    """While the driver starts slowly, readings fail in time and the same helper is kept."""
    say(f"slow 6000\n{A}")
    provider = NvmlProvider(patience=60)
    with pytest.raises(Starting, match="still starting"):
        await provider.read()
    await until(provider, lambda found: states(found) == [None])
    assert len(started) == 1
    await provider.aclose()


async def test_a_card_that_is_well_again_is_read_again(say: Say, keen: NvmlProvider) -> None:
    """A second helper tries a card that was left out, and the card comes back."""
    say(f"{A}{B}crash\n")
    assert states(await keen.read()) == [None, CRASHES]
    say(A + B)
    await until(keen, lambda found: states(found) == [None, None])


async def test_one_of_two_that_is_well_again_is_read_again(say: Say, keen: NvmlProvider) -> None:
    """A card comes back although another one still crashes."""
    say(f"{A}crash\n{B}{C}crash\n")
    assert states(await keen.read()) == [CRASHES, None, CRASHES]
    say(f"{A}crash\n{B}{C}")
    await until(keen, lambda found: states(found) == [CRASHES, None, None])


async def test_a_card_that_was_reset_is_seen_by_a_library_that_begins_anew(
    say: Say, keen: NvmlProvider
) -> None:
    """A card that was reset is read by a newly initialised library; the others are read all the time."""
    say(f"sticky\n{A}{B}lists 16\n")
    assert states(await keen.read()) == [None, "GPU requires reset"]
    say(f"sticky\n{A}{B}")
    others: list[str | None] = []
    await until(keen, lambda found: others.append(states(found)[0]) or states(found)[1] is None)  # type: ignore[func-returns-value]
    assert set(others) == {None}


async def test_a_card_that_goes_and_returns_is_seen(say: Say, keen: NvmlProvider) -> None:
    """A card that disappears is found again when it returns."""
    say(A + B)
    await keen.read()
    say(f"sticky\n{A}handle 15\n{B}")
    assert states(await keen.read()) == ["GPU is lost", None]
    say(f"sticky\n{B}")
    (left,) = await until(keen, lambda found: len(found) == 1)
    assert (left.index, left.uuid) == (0, "GPU-bbbb")
    say(f"sticky\n{B}{A}")
    both = await until(keen, lambda found: len(found) == 2)
    assert [one.uuid for one in both] == ["GPU-bbbb", "GPU-aaaa"]


async def test_a_card_that_is_added_is_seen(say: Say, keen: NvmlProvider, tmp_path: Path) -> None:
    """A new entry in the driver's folder initialises the library again."""
    say(f"sticky\n{A}")
    await keen.read()
    say(f"sticky\n{A}{B}")
    (tmp_path / "devices" / "0000:41:00.0").mkdir(parents=True)
    await until(keen, lambda found: len(found) == 2)


async def test_all_being_well_nothing_is_started(
    say: Say, keen: NvmlProvider, started: list[Started]
) -> None:
    """While all cards work, there is one helper."""
    say(A + B)
    for _ in range(20):
        await keen.read()
        await anyio.sleep(0.01)
    assert len(started) == 1


async def test_a_card_that_stays_broken_is_tried_ever_more_seldom(
    say: Say, keen: NvmlProvider, started: list[Started]
) -> None:
    """The pause between attempts doubles while a card stays broken."""
    say(f"sticky\n{A}{B}lists 16\n")
    while len(started) < 5:
        assert states(await keen.read()) == [None, "GPU requires reset"]
        await anyio.sleep(0.01)
    pauses = [later.at - earlier.at for earlier, later in pairwise(started)]
    assert [pause >= FIRST * 2**number for number, pause in enumerate(pauses)] == [True] * 4


async def test_a_helper_that_is_killed_is_no_card_to_blame(
    say: Say, keen: NvmlProvider, started: list[Started]
) -> None:
    """If the helper is killed, it is replaced in the same scan and no card is blamed."""
    say(A + B)
    await keen.read()
    os.kill(started[0].pid, signal.SIGKILL)
    assert states(await keen.read()) == [None, None]
    assert len(started) == 2


async def test_a_driver_that_does_not_start_is_asked_by_the_same_process(
    say: Say, provider: NvmlProvider, started: list[Started]
) -> None:
    """While the driver does not start, the same helper is used for every attempt."""
    say(f"init 18\n{A}")
    for _ in range(5):
        with pytest.raises(ProviderError, match="mismatch"):
            await provider.read()
    assert len(started) == 1
