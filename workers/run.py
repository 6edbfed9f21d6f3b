"""Starts the configured workers in one task group."""

from functools import partial
from pathlib import Path
from typing import Any

import anyio
import msgspec
import structlog
from anyio.abc import TaskStatus

from canhazgpu.config.settings import Settings
from canhazgpu.events.open_violations import open_violations
from canhazgpu.events.redis_client.scripts import Script
from canhazgpu.events.redis_client.store import Store, StoreDown
from canhazgpu.events.silences import readable_silences
from canhazgpu.events.violations import Signalled, Violation
from canhazgpu.notifiers.audit_log.writer import AuditLog
from canhazgpu.notifiers.channels.terminate import Terminate
from canhazgpu.notifiers.registry import channels
from canhazgpu.workers.audit import AuditWorker, LogChannel
from canhazgpu.workers.delivery import DeliveryWorker
from canhazgpu.workers.dispatch.dispatcher import Dispatcher

WITNESS = Script("canhazgpu.workers", "witness")
OLDEST_MS = 5_000  # Maximum age of a scan that is used to end processes.


async def run_workers(
    settings: Settings, store: Store, name: str, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    """Run the dispatcher and the channels until cancelled.

    `name` is the name in every consumer group. It must be the same at each start, and different for
    processes that run workers at the same time.
    """
    notify = settings.notify
    told = channels(settings)
    async with anyio.create_task_group() as tasks:
        await tasks.start(Dispatcher(settings, store, name).run)
        if notify.log.enabled:
            log = AuditLog(Path(notify.log.path))
            await tasks.start(AuditWorker(store, log, name).run)
            told.append(LogChannel(log))
        if settings.notices.terminate.enabled:
            told.append(Terminate(settings, partial(open_now, store), partial(record_signals, store)))
        for channel in told:
            dry = notify.dry_run and channel.name != "log"
            await tasks.start(DeliveryWorker(store, channel, name, dry_run=dry).run)
        if settings.fleet.url:
            from canhazgpu.workers.fleet.mirror import Mirror  # noqa: PLC0415 - few hosts are in a fleet

            await tasks.start(Mirror(settings, store).run)
        task_status.started()


async def open_now(store: Store) -> dict[str, Violation] | None:
    """Return the open violations without a silence by id, or None if the last scan is too old."""
    keys, redis = store.keys, store.redis
    try:
        scan: Any = await store.ask(redis.hmget(keys.scan, "at_ms", "stalled_ms"))
        if scan[0] is None or scan[1] is not None or await store.now_ms() - int(scan[0]) > OLDEST_MS:
            return None
        fields: Any = await store.ask(redis.hgetall(keys.open))
        texts: Any = await store.ask(redis.hvals(keys.silences))
    except StoreDown:
        return None
    silences = readable_silences(texts)
    return {
        one.violation: one
        for one in open_violations(fields)
        if not any(silence.covers(one) for silence in silences)
    }


async def record_signals(store: Store, facts: list[Signalled]) -> None:
    """Record the signals sent to processes; while Redis is down, only in the service's log."""
    for fact in facts:
        structlog.get_logger().warning(
            "process_signalled",
            notice=fact.notice,
            violation=fact.violation,
            gpu=fact.gpu,
            pid=fact.pid,
            user=fact.user,
            signal=fact.signal,
            outcome=fact.outcome,
        )
    keys = store.keys
    try:
        texts = [msgspec.json.encode(fact) for fact in facts]
        await store.run(WITNESS, [keys.sequence, keys.events, keys.violations], [keys.host, *texts])
    except StoreDown as down:
        store.report_down(down)
