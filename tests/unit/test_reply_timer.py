"""Redis counts as silent if no reply has come to any command for a while."""

import time

import anyio
import anyio.lowlevel
import pytest

from canhazgpu.events.redis_client.reply_timer import ReplyTimer

pytestmark = pytest.mark.anyio
QUIET = 0.05
LONG = 60.0
TINY = 0.001  # Of a sum of large numbers.


async def test_nothing_comes() -> None:
    """The wait ends after the time without any reply."""
    reply_timer = ReplyTimer()
    with pytest.raises(TimeoutError), anyio.fail_after(LONG), reply_timer.limit(QUIET, LONG):
        await anyio.sleep_forever()
    assert reply_timer.seconds == 0


@pytest.mark.parametrize(("longest", "more"), [(2 * LONG, QUIET), (LONG + QUIET / 2, QUIET / 2)])
async def test_a_server_that_answers_others_is_not_silent(longest: float, more: float) -> None:
    """Each reply to anybody gives the wait as much time again, up to the longest."""
    reply_timer = ReplyTimer()
    with reply_timer.limit(LONG, longest):
        first = anyio.current_effective_deadline()
        await anyio.sleep(QUIET)
        assert anyio.current_effective_deadline() == first
        with reply_timer.expect_reply():
            pass
        gained = anyio.current_effective_deadline() - first
    assert gained >= more - TINY
    assert gained <= longest - LONG + TINY


async def test_the_oldest_outstanding_command_counts() -> None:
    """The time counts from the oldest outstanding command or the last reply; an error is not a reply."""
    reply_timer = ReplyTimer()
    assert reply_timer.seconds == 0
    with reply_timer.expect_reply():
        await anyio.sleep(QUIET)
        with pytest.raises(OSError, match="lost"), reply_timer.expect_reply():
            raise OSError("lost")
        assert reply_timer.seconds >= QUIET
        replied = time.monotonic()
        with reply_timer.expect_reply():
            pass
        assert reply_timer.seconds <= time.monotonic() - replied


async def test_what_is_read_in_time_is_kept() -> None:
    """An answer in time, and another error, pass through."""
    reply_timer = ReplyTimer()
    with reply_timer.limit(LONG, LONG):
        await anyio.lowlevel.checkpoint()
    with pytest.raises(OSError, match="lost"), reply_timer.limit(LONG, LONG):
        raise OSError("lost")
