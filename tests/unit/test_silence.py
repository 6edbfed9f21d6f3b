"""When Redis counts as silent: nothing came since it was asked, whoever asked."""

import anyio
import anyio.lowlevel
import pytest

from canhazgpu.events.redis_client.silence import Silence

pytestmark = pytest.mark.anyio
QUIET = 0.05
LONG = 60.0


async def test_nothing_comes() -> None:
    """The wait ends after the time without any reply."""
    silence = Silence()
    with pytest.raises(TimeoutError), anyio.fail_after(LONG), silence.limit(QUIET, LONG):
        await anyio.sleep_forever()
    assert silence.seconds == 0


async def test_a_server_that_answers_others_is_not_silent() -> None:
    """Each reply to anybody gives the wait as much time again, up to the longest."""
    silence, replies = Silence(), 0

    async def others() -> None:
        nonlocal replies
        while True:
            with silence.asking():
                await anyio.sleep(QUIET / 10)
            replies += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(others)
        began = anyio.current_time()
        with pytest.raises(TimeoutError), silence.limit(QUIET * 10, QUIET * 40):
            await anyio.sleep_forever()
        assert anyio.current_time() - began >= QUIET * 40
        tasks.cancel_scope.cancel()
    assert replies


async def test_the_oldest_question_counts() -> None:
    """Silence lasts since it was asked, or since the last reply; an error is no reply."""
    silence = Silence()
    assert silence.seconds == 0
    with silence.asking():
        await anyio.sleep(QUIET)
        with pytest.raises(OSError, match="lost"), silence.asking():
            raise OSError("lost")
        before = silence.seconds
        assert before >= QUIET
        with silence.asking():
            pass
        assert silence.seconds < before


async def test_what_is_read_in_time_is_kept() -> None:
    """An answer in time, and another error, pass through."""
    silence = Silence()
    with silence.limit(LONG, LONG):
        await anyio.lowlevel.checkpoint()
    with pytest.raises(OSError, match="lost"), silence.limit(LONG, LONG):
        raise OSError("lost")
