"""Writes every violation event to the audit log, in the order of the stream, exactly once."""

import anyio
import structlog
from anyio import to_thread
from anyio.abc import TaskStatus

from canhazgpu.events.notices import Notice
from canhazgpu.events.redis_client.keys import GROUP_LOG
from canhazgpu.events.redis_client.store import Store
from canhazgpu.notifiers.audit_log.writer import AuditLog, line_of, notice_line
from canhazgpu.notifiers.outcome import Outcome
from canhazgpu.workers.consumer import LONGEST_BLOCK, Consumer, Entry

PAUSE_FIRST, PAUSE_LAST = 0.2, 10.0


class AuditWorker:
    """The worker for the audit log. If the disk is full it waits; it never skips an event."""

    def __init__(self, store: Store, log: AuditLog, name: str) -> None:
        """Join the group `log` as `name`."""
        self._consumer = Consumer(store, store.keys.violations, GROUP_LOG, name)
        self._log = log

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled."""
        await self._consumer.run(self._write, _nothing_due, task_status)

    async def _write(self, entries: list[Entry]) -> None:
        for entry in entries:
            pause = PAUSE_FIRST
            while True:
                try:
                    await to_thread.run_sync(self._log.append, entry.event.id, line_of(entry.event))
                    break
                except OSError as error:
                    structlog.get_logger().error("audit_log_not_written", reason=str(error), wait_s=pause)
                    await anyio.sleep(pause)
                    pause = min(pause * 2, PAUSE_LAST)
            await self._consumer.acknowledge(entry.id)


async def _nothing_due() -> float:
    return LONGEST_BLOCK


class LogChannel:
    """The channel `log`: it writes a line about every notice."""

    name = "log"

    def __init__(self, log: AuditLog) -> None:
        """Write to `log`."""
        self._log = log

    async def recipients(self, notice: Notice) -> list[str]:
        """Return the path of the log."""
        del notice
        return [str(self._log.path)]

    async def deliver(self, notice: Notice, recipients: list[str], first: str | None) -> list[Outcome]:
        """Write one line."""
        del first
        try:
            await to_thread.run_sync(self._log.append, notice.notice, notice_line(notice))
        except OSError as error:
            return [Outcome(one, "retry", str(error)) for one in recipients]
        return [Outcome(one, "delivered") for one in recipients]
