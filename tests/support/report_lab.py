"""A host on a test's clock whose reports can be asked for: one card, two users."""

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, tzinfo
from typing import Any

import msgspec
import pytest
from month.clock import TimedStore
from month.hours_host import HoursHost

from canhazgpu.service.report.report import Question, report
from canhazgpu.service.report.responses import GpuHours, ReportResponse
from canhazgpu.service.reservations.allocator import AllocationRequest
from canhazgpu.service.reservations.releases import ReleaseOrder

BEGIN = 1_790_553_600_000  # 2026-09-28, 00:00 UTC.
HOUR, DAY = 3600, 86400
ALICE, BOB = 1001, 1002


@pytest.fixture
async def host(redis_url: str) -> AsyncIterator[HoursHost]:
    """A host with one card, which a scan has seen."""
    store = TimedStore(redis_url, f"report-{uuid.uuid4().hex[:8]}")
    host = HoursHost(store, 1, BEGIN)
    host.listed = ["GPU-a"]
    await host.go(0)
    await host.scan("GPU-a")
    yield host
    await store.close()


async def until(host: HoursHost, second: int) -> None:
    """Scan until then, as often as the service does, and add up what is over."""
    while host.second < second:
        await host.go(min(600, second - host.second))
        await host.scan(*host.listed)
    await host.summing.update()


async def reserve(host: HoursHost, uid: int = ALICE, **more: Any) -> None:
    """Reserve the card, for a year."""
    ask = AllocationRequest(kind="manual", user=f"u{uid}", uid=uid, count=1, duration_ms=10**10, **more)
    await host.allocator.reserve(ask, f"reserve-{host.second}-{uid}")


async def release(host: HoursHost, uid: int = ALICE) -> None:
    """Release what somebody has."""
    order = ReleaseOrder(uid=uid, by=f"u{uid}", reason="released")
    await host.allocator.release(order, f"release-{host.second}-{uid}")


async def ask(
    host: HoursHost, begin: int, end: int, by: str = "user", zone: tzinfo | None = UTC, **more: Any
) -> ReportResponse:
    """Return the report of a period in seconds."""
    period = {"since_ms": BEGIN + begin * 1000, "until_ms": BEGIN + end * 1000}
    asked = {**period, "by": by, "zone": zone, "stale_ms": host.rules.stale_ms, **more}
    return await report(host.store, Question(host="h", **asked))


def hours(row: GpuHours) -> dict[str, float]:
    """Return what is not zero, in hours."""
    found = msgspec.structs.asdict(row)
    return {
        name[:-2]: found[name] / HOUR
        for name in found
        if name.endswith("_s") and found[name] and name != "reserved_s"
    }
