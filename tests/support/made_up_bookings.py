"""The bookings of the made-up lab."""

from datetime import UTC, datetime, timedelta

from canhazgpu.service.routes.reservation_routes.bookings import BookingResponse

HOUR = 3600
ROWS = (
    ("erin", 2.5, 4, None, "course on transformers"),
    ("alice", 18, 3, [0, 1], "demo for the visitors"),
    ("bob", 30, 24, [7], None),
    ("carol", 52, 8, None, "ablations"),
    ("erin", 98.5, 4, None, "course on transformers"),
)


def bookings(now: datetime) -> list[BookingResponse]:
    """Return them: who, in how many hours, for how many, which GPUs or any 2, and the note."""

    def at(hours: float) -> str:
        return (now + timedelta(hours=hours)).astimezone(UTC).isoformat().replace("+00:00", "Z")

    return [
        BookingResponse(
            id=f"b{number}",
            series=None,
            drain=None,
            user=user,
            label=None,
            note=note,
            count=len(gpus) if gpus else 2,
            vendor=None,
            gpus=gpus,
            begin=at(begin),
            end=at(begin + lasts),
            zone="UTC",
            created=at(-20),
            begins_in_s=round(begin * HOUR),
            lasts_s=round(lasts * HOUR),
            late=None,
        )
        for number, (user, begin, lasts, gpus, note) in enumerate(ROWS)
    ]
