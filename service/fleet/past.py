"""The past of the hosts of the fleet: reservations that have ended, and GPU-hours."""

from collections import deque
from collections.abc import Iterable
from typing import Any

import msgspec

from canhazgpu.events.redis_client.fleet_copy import MOST_ROWS, decode_ended, decode_hours
from canhazgpu.events.reservations import Reservation
from canhazgpu.events.timestamps import ms_of, rfc3339
from canhazgpu.service.fleet.mirror_reader import TROUBLE, HostCopy
from canhazgpu.service.report.facts import Base, Facts, Sums, Waited, decode_list, ms
from canhazgpu.service.report.report import Question, answer
from canhazgpu.service.report.responses import FleetReportResponse, GpuHours, ReportResponse, ReportRow
from canhazgpu.service.report.timeline import DAY_MS, HOUR_MS
from canhazgpu.service.reservations.ended import EndedFilter, EndedReservationResponse, ended_row


def ended_rows(copy: HostCopy, wanted: EndedFilter, most: int) -> list[EndedReservationResponse]:
    """Return the newest `most` ended reservations that match, oldest first. Raises ValueError."""
    rows = deque[EndedReservationResponse](maxlen=most)
    for time, data in decode_ended(copy.past) if copy.past else ():
        one, at_ms = msgspec.json.decode(data, type=Reservation), ms_of(time)
        if wanted.since_ms <= at_ms <= (at_ms if wanted.until_ms is None else wanted.until_ms):
            rows += [ended_row(one, time)] if wanted.fits(one) else []
    return list(rows)


def host_report(copy: HostCopy, asked: Question) -> ReportResponse | None:
    """Return the report of one host; None if there is none that can be read."""
    try:
        return _host_report(copy, asked) if copy.past else None
    except TROUBLE:
        return None


def _host_report(copy: HostCopy, asked: Question) -> ReportResponse:
    fields = decode_hours(copy.past)
    summed = int(fields["summed"])
    begin = -(-asked.since_ms // HOUR_MS) * HOUR_MS
    end = min(asked.until_ms // HOUR_MS, summed) * HOUR_MS
    days = range(begin // DAY_MS, end // DAY_MS + 1)
    sums = [fields[name] for day in days if (name := f"sums/{day}") in fields]
    names = msgspec.json.decode(fields.get("names", b"{}"), type=dict[int, str])
    parts = [part for text in sums for part in decode_list(text, Sums)]
    users = {user for part in parts for user in part.users}
    if max(len(users), len(names)) > MOST_ROWS:
        raise ValueError(f"it has more than {MOST_ROWS} users")
    if not all(0 <= length <= HOUR_MS for part in parts for *_, length in part.rows):
        raise ValueError("its hours are longer than an hour")
    waited = [one for day in days for one in decode_list(fields.get(f"waits/{day}", b""), Waited)]
    found = Facts(
        now_ms=end,
        entries={},
        holds={},
        waits=[(ms(one.began), ms(one.ended), one.uid) for one in waited],
        present={gpu.usage.uuid or f"gpu{gpu.usage.index}": gpu.usage.index for gpu in copy.snapshot.gpus},
        names=names,
        sums=sums,
    )
    known = Base(now_ms=end, summed=summed, carried=0, cards={}, indices=())
    here = msgspec.structs.replace(asked, host=copy.host, since_ms=min(begin, end), until_ms=end)
    return answer(here, known, found)


def merged(reports: Iterable[tuple[str, ReportResponse | None]], asked: Question) -> FleetReportResponse:
    """Return one report: rows with the same key are added up, and weeks by the number of GPUs."""
    total, rows, left_out, hosts, gpus = GpuHours(), dict[str, ReportRow](), list[str](), 0, 0
    week = [[[0.0, 0] for _ in range(24)] for _ in range(7)]
    for host, one in reports:
        if one is None:
            left_out.append(host)
            continue
        hosts, gpus = hosts + 1, gpus + one.gpus
        _add(total, one.total)
        for row in one.rows:
            if (kept := rows.get(row.key)) is None:
                rows[row.key] = msgspec.structs.replace(row, uid=None, gpu_id=None)
            else:
                _add(kept, row)
        for cells, shares in zip(week, one.week, strict=True):
            for cell, share in zip(cells, shares, strict=True):
                if share is not None:
                    cell[0], cell[1] = cell[0] + share * one.gpus, cell[1] + one.gpus
    return FleetReportResponse(
        host=f"{hosts} hosts",
        since=rfc3339(asked.since_ms),
        until=rfc3339(asked.until_ms),
        by=asked.by,
        user=asked.user,
        zone=str(asked.zone or "local"),
        gpus=gpus,
        total=total,
        rows=sorted(rows.values(), key=_order(asked.by)),
        week=[[round(some / all_, 3) if all_ else None for some, all_ in cells] for cells in week],
        hosts=hosts,
        left_out=left_out,
    )


def _add(total: GpuHours, one: GpuHours) -> None:
    for name in GpuHours.__struct_fields__:
        setattr(total, name, getattr(total, name) + getattr(one, name))


def _order(by: str) -> Any:
    if by == "user":
        return lambda row: (-row.reserved_s - row.unreserved_s, row.key)
    return lambda row: row.key
