"""A wait for Redis ends when it is cancelled, also if a library loses the cancellation."""

import asyncio
from contextlib import suppress

import pytest

from canhazgpu.events.redis_client.cancellation import cancellable, check_cancelled

pytestmark = pytest.mark.anyio


async def forgetful(lost: list[str]) -> None:
    """Wait for ever, and lose the first cancellation, as asyncio.wait_for can before Python 3.12."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        lost.append("once")
    await asyncio.Event().wait()


async def test_a_command_that_loses_a_cancellation_is_cancelled_again() -> None:
    """The waiting task ends, and so does the command."""
    lost: list[str] = []
    waiting = asyncio.ensure_future(cancellable(forgetful(lost)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting}, timeout=20)
    assert waiting.cancelled()
    assert lost == ["once"]


async def test_the_result_and_the_error_are_those_of_the_command() -> None:
    """Without a cancellation, nothing is different."""

    async def answer(text: str) -> str:
        return str(int(text))

    assert await cancellable(answer("7")) == "7"
    with pytest.raises(ValueError, match="seven"):
        await cancellable(answer("seven"))


async def test_a_cancellation_that_was_lost_is_raised_later() -> None:
    """Who checks learns of it; without one, checking does nothing."""
    check_cancelled()

    async def work() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        check_cancelled()

    working = asyncio.ensure_future(work())
    await asyncio.sleep(0)
    working.cancel()
    await asyncio.wait({working}, timeout=20)
    assert working.cancelled()
