"""What looks at something now and then does so when a scan ends."""

import anyio
import pytest

from canhazgpu.service.pacing import Pace


@pytest.mark.anyio
async def test_a_pause_ends_with_the_first_scan_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a scan before that nor the time alone ends it, and the next pause is as long again."""
    now = 100.0
    monkeypatch.setattr("canhazgpu.service.pacing.time.monotonic", lambda: now)
    pace, looks = Pace(5), 0

    async def look() -> None:
        nonlocal looks
        while True:
            await pace.pause()
            looks += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look)
        for now, expected in ((104.0, 0), (105.0, 1), (109.9, 1), (110.0, 2)):  # noqa: B007 - read by the clock
            await anyio.wait_all_tasks_blocked()
            pace.check()
            await anyio.wait_all_tasks_blocked()
            assert looks == expected
        tasks.cancel_scope.cancel()
