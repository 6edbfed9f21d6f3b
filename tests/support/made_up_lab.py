"""An API that answers with a made-up lab, so that pictures show every part of the page."""

import math
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from support.made_up_bookings import bookings

from canhazgpu.events.gpu import NVIDIA
from canhazgpu.events.notices import Delivery
from canhazgpu.service.api.responses import (
    GpuResponse,
    ProcessResponse,
    QueueEntryResponse,
    ReservationResponse,
    SilencedViolation,
    ViolationResponse,
)
from canhazgpu.service.report.responses import GpuHours, ReportResponse, ReportRow
from canhazgpu.service.reservations.ended import EndedReservationResponse

NOW = datetime.now(UTC).replace(microsecond=0)
NAME = "NVIDIA H100 80GB HBM3"
TOTAL = 81559
PEOPLE = ("alice", "bob", "carol", "dave", "erin")
DICE = random.Random(7)
HOUR = 3600.0
WEEK = 7 * 24
STEP = 6  # Hours of a part in the time line of a week.
GPUS = 8


def at(hours: float) -> str:
    """Return a time so many hours from now."""
    return (NOW + timedelta(hours=hours)).isoformat().replace("+00:00", "Z")


def _held(
    number: int, user: str, gpus: list[int], since: float, until: float | None, note: str | None
) -> ReservationResponse:
    return ReservationResponse(
        id=f"r{number}",
        kind="manual" if until else "run",
        user=user,
        label=None,
        note=note,
        gpus=gpus,
        pid=None if until else 4000 + number,
        started=at(since),
        for_s=round(-since * HOUR),
        expires=at(until) if until else None,
        expires_in_s=round(until * HOUR) if until else None,
        until=at(until) if until else None,
        last_heartbeat_s=None if until else 2,
        lingering_s=None,
        idle_s=None,
    )


HELD = {
    0: _held(1, "alice", [0, 1], -5.2, None, "nightly training"),
    1: _held(1, "alice", [0, 1], -5.2, None, "nightly training"),
    3: _held(2, "carol", [3], -1.4, 2.6, "evaluation for the paper"),
    5: _held(3, "dave", [5], -26, 22, None),
}
USED = {0: (96, 71_200, "alice"), 1: (93, 70_800, "alice"), 2: (64, 18_400, "bob"), 3: (38, 22_100, "carol")}


def _violation(number: int, gpu: int, user: str, since: float, closed: float | None) -> ViolationResponse:
    return ViolationResponse(
        violation=f"v{number}",
        kind="unreserved",
        gpu=gpu,
        gpu_uuid=f"GPU-{gpu}",
        gpu_name=NAME,
        key=f"user:{user}",
        user=user,
        uid=1001,
        person=user,
        evidence="uid",
        since=at(since),
        memory_mb=18_400,
        peak_memory_mb=18_400,
        reason=None if closed is None else "stopped",
        closed=None if closed is None else at(closed),
        duration_s=None if closed is None else round((closed - since) * HOUR),
        state="open" if closed is None else "closed",
        told="reached",
        reached_at=at(since + 0.01),
    )


VIOLATIONS = [
    _violation(1, 6, "erin", -120, -117),
    _violation(2, 2, "dave", -75, -74.2),
    _violation(3, 4, "bob", -20, -18.5),
    _violation(4, 2, "bob", -0.4, None),
]


def _gpu(index: int) -> GpuResponse:
    percent, used, user = USED.get(index, (0, 45, None))
    held, wave = HELD.get(index), DICE.randint(-3, 3)
    opened = msgspec.structs.asdict(VIOLATIONS[-1])
    open_ = {name: opened[name] for name in SilencedViolation.__struct_fields__ if name in opened}
    status = "IN_USE" if held else "UNRESERVED" if user else "DRAINED" if index == 6 else "AVAILABLE"
    unproven = {"container": None, "evidence": "uid", "hint": None}
    facts = {"pid": 5200 + index, "name": "python3", "user": user or "", "memory_mb": used, **unproven}
    process = msgspec.convert(facts, ProcessResponse)
    return GpuResponse(
        gpu_id=index,
        number=str(index),
        parent=None,
        profile=None,
        instances=[],
        uuid=f"GPU-{index}",
        name=NAME,
        vendor=NVIDIA,
        minor=index,
        status="ERROR" if index == 7 else status,
        reason="GPU is lost" if index == 7 else "fan is broken" if index == 6 else None,
        remedy="look for Xid in `dmesg`" if index == 7 else None,
        users=[user] if user else [],
        memory_mb=used,
        memory_used_mb=None if index == 7 else used,
        memory_total_mb=None if index == 7 else TOTAL,
        utilization_percent=None if index == 7 else max(0, min(100, percent + (wave if percent else 0))),
        temperature_c=None if index == 7 else 34 + percent // 3,
        in_use=bool(user),
        processes=[process] if user else [],
        others=[],
        presumed=[],
        reservation=held,
        drained="fan is broken" if index == 6 else None,
        violations=[SilencedViolation(**open_, silenced_until=None)] if index == 2 else [],
        silenced_s=None,
        mig=[],
        last_released=None,
        released_s=None,
        scanned_at=at(0),
        stale_s=None,
        stale_reason=None,
    )


def _queue() -> list[QueueEntryResponse]:
    asked = (("erin", 2, "4-fold validation", 2.6), ("bob", 4, None, 22.0), ("dave", 1, "notebook", 22.0))
    return [
        QueueEntryResponse(
            id=f"q{place}",
            position=place,
            user=user,
            label=None,
            note=note,
            kind="run",
            count=count,
            vendor=None,
            profile=None,
            gpus=None,
            queued=at(-0.3 / place),
            waiting_s=900,
            expected=at(until),
            reason=f"needs {count} of 8: 1 drained, 1 error, 4 reserved, 1 in use, 1 free",
        )
        for place, (user, count, note, until) in enumerate(asked, 1)
    ]


def _ended() -> list[EndedReservationResponse]:
    rows, dice = [], random.Random(3)
    for gpu in range(GPUS):
        begin = -float(WEEK)
        while (begin := begin + dice.uniform(0.5, 14)) < -6:
            length = min(dice.uniform(1, 18), -6 - begin)
            rows.append((begin, begin + length, gpu, dice.choice(PEOPLE)))
            begin += length
    return [_end(number, *row) for number, row in enumerate(sorted(rows))]


def _end(number: int, begin: float, end: float, gpu: int, user: str) -> EndedReservationResponse:
    return EndedReservationResponse(
        id=f"e{number}",
        kind="run",
        user=user,
        uid=1001,
        label=None,
        note=None,
        gpus=[gpu],
        uuids=None,
        kept=None,
        started=at(begin),
        ended=at(end),
        held_s=round((end - begin) * HOUR),
        reason="exited",
        by=None,
    )


def _report(request: Request) -> ReportResponse:
    query = request.query_params
    by, since = query.get("by", "user"), query.get("since", "")
    part = STEP * HOUR if since.startswith(f"{NOW.year}") else 72 * HOUR  # The time line asks for parts.
    dice = random.Random(since)
    keys = {
        "user": PEOPLE,
        "gpu": [f"GPU-{index}" for index in range(GPUS)],
        "day": [at(-24 * day) for day in range(6, -1, -1)],
    }[by]
    rows = [_row(key, place, by, part, dice) for place, key in enumerate(keys)]
    total = {name: sum(getattr(row, name) for row in rows) for name in GpuHours.__struct_fields__}
    return ReportResponse(
        host="gpu1",
        since=at(-WEEK),
        until=at(0),
        by=by,
        user=None,
        zone=query.get("zone", "UTC"),
        gpus=GPUS,
        total=GpuHours(**total),
        rows=rows,
        week=[[_share(day, hour) for hour in range(24)] for day in range(7)],
    )


def _row(key: str, place: int, by: str, part: float, dice: random.Random) -> ReportRow:
    whole = part / (place + 1) if by == "user" else part
    active, idle, unused = (dice.uniform(0, share) * whole for share in (0.8, 0.1, 0.15))
    return ReportRow(
        key=key,
        gpu_id=place if by == "gpu" else None,
        reserved_s=active + idle + unused,
        active_s=active,
        idle_s=idle,
        unused_s=unused,
        unreserved_s=dice.uniform(0, 0.05) * whole,
        free_s=max(0.0, whole - active - idle - unused),
    )


def _share(day: int, hour: int) -> float:
    busy = 0.75 if day < 5 else 0.35
    return max(0.05, min(1.0, busy * (0.55 + 0.45 * math.sin((hour - 8) / 24 * 2 * math.pi))))


def _deliveries() -> list[Delivery]:
    facts = (("wall", "bob:pts/3"), ("email", "b…@example.com"), ("log", ""))
    return [
        Delivery(
            notice=f"n{number}", kind="opened", channel=channel, recipient=to, outcome="delivered", attempt=1,
            time=at(one - 0.01 * number),
        )
        for one in (-0.38, -19.9)
        for number, (channel, to) in enumerate(facts)
    ]  # fmt: skip


async def _events(request: Request) -> Response:
    del request

    async def nothing() -> Any:
        yield b"\n"

    return StreamingResponse(nothing(), media_type="application/jsonl")


def application(*more: Route) -> Starlette:
    """Return the API, with more routes."""
    answers: dict[str, Any] = {
        "/v1/health": lambda _: {"host": "gpu1"},
        "/v1/status": lambda _: [_gpu(index) for index in range(GPUS)],
        "/v1/queue": lambda _: _queue(),
        "/v1/bookings": lambda _: bookings(NOW),
        "/v1/reservations": lambda _: list({one.id: one for one in HELD.values()}.values()),
        "/v1/reservations/ended": lambda _: _ended(),
        "/v1/violations": lambda _: VIOLATIONS,
        "/v1/report": _report,
        "/v1/deliveries": lambda _: _deliveries(),
    }

    def route(path: str, make: Any) -> Route:
        async def answer(request: Request) -> Response:
            return Response(msgspec.json.encode(make(request)), media_type="application/json")

        return Route(path, answer)

    made = (route(path, make) for path, make in answers.items())
    return Starlette(routes=[Route("/v1/events", _events), *more, *made])
