"""Redis counts as silent if no reply has come to any command for a while."""

import anyio
import anyio.lowlevel
import pytest

from canhazgpu.events.redis_client.reply_timer import ReplyTimer

pytestmark = pytest.mark.anyio
QUIET = 0.05
LONG = 60.0


async def test_nothing_comes() -> None:
    """The wait ends after the time without any reply."""
    reply_timer = ReplyTimer()
    with pytest.raises(TimeoutError), anyio.fail_after(LONG), reply_timer.limit(QUIET, LONG):
        await anyio.sleep_forever()
    assert reply_timer.seconds == 0


async def test_a_server_that_answers_others_is_not_silent() -> None:
    """Each reply to anybody gives the wait as much time again, up to the longest."""
    reply_timer, replies = ReplyTimer(), 0

    async def others() -> None:
        nonlocal replies
        while True:
            with reply_timer.expect_reply():
                await anyio.sleep(QUIET / 10)
            replies += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(others)
        began = anyio.current_time()
        with pytest.raises(TimeoutError), reply_timer.limit(QUIET * 10, QUIET * 40):
            await anyio.sleep_forever()
        assert anyio.current_time() - began >= QUIET * 40
        tasks.cancel_scope.cancel()
    assert replies


async def test_the_oldest_outstanding_command_counts() -> None:
    """The time counts from the oldest outstanding command or the last reply; an error is not a reply."""
    reply_timer = ReplyTimer()
    assert reply_timer.seconds == 0
    with reply_timer.expect_reply():
        await anyio.sleep(QUIET)
        with pytest.raises(OSError, match="lost"), reply_timer.expect_reply():
            raise OSError("lost")
        before = reply_timer.seconds
        assert before >= QUIET
        with reply_timer.expect_reply():
            pass
        assert reply_timer.seconds < before


async def test_what_is_read_in_time_is_kept() -> None:
    """An answer in time, and another error, pass through."""
    reply_timer = ReplyTimer()
    with reply_timer.limit(LONG, LONG):
        await anyio.lowlevel.checkpoint()
    with pytest.raises(OSError, match="lost"), reply_timer.limit(LONG, LONG):
        raise OSError("lost")
