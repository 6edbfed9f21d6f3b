"""Ends the service in order at SIGTERM and SIGINT."""

import signal
from collections.abc import Callable

import anyio
import structlog
from anyio.abc import TaskStatus


async def stop_on_signal(
    stop: Callable[[], None], *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    """Call `stop` at each of these signals, until cancelled. Reports started once it listens."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            structlog.get_logger().info("stopping", signal=signal.Signals(number).name)
            stop()
