"""The wording of notices about maintenance: it is planned, begins soon, or has begun."""

from canhazgpu.events.notices import Notice
from canhazgpu.events.reservations import Booking, Concerned
from canhazgpu.events.sanitize import printable
from canhazgpu.notifiers.messages.content import Commands, Content, Sentence, Table
from canhazgpu.notifiers.messages.phrases import gpus, length, listed, moment

PLANNED, SOON, BEGUN = "maintenance-planned", "maintenance-reminder", "maintenance-begun"
BOOKINGS = ("To see all bookings and maintenance", "canhazgpu bookings")
STATUS = ("To see all GPUs", "canhazgpu status")


def describe_maintenance(notice: Notice, booking: Booking) -> Content:
    """Return the content of a notice to a user whom maintenance concerns."""
    what = f"maintenance of {gpus(booking.gpus or ())} {_when(notice, booking)}"
    concerned = booking.concerned or ()
    rows = tuple(_command(one) for one in concerned)
    return Content(
        subject=what,
        headline=f"{printable(notice.user)}, {what}.",
        parts=(
            Sentence(f"{_meaning(notice, booking)} {' '.join(_effect(notice, one) for one in concerned)}"),
            Commands("", rows),
            Table("The maintenance:", (), tuple(_facts(booking))),
            Commands("", (BOOKINGS, STATUS), aside=True),
        ),
        mood="bad" if notice.kind == BEGUN else "plain",
    )


def _when(notice: Notice, booking: Booking) -> str:
    if notice.kind == BEGUN:
        return "has begun"
    if notice.kind == SOON:
        left = length(notice.created, booking.begin)
        return f"begins {f'in {left}, ' if left else ''}at {moment(booking.begin)}"
    return f"is planned for {moment(booking.begin)}"


def _meaning(notice: Notice, booking: Booking) -> str:
    end = moment(booking.end)
    if notice.kind == BEGUN:
        return f"Nobody can reserve them until {end}."
    return f"Nobody can reserve them from then until {end}."


def _effect(notice: Notice, one: Concerned) -> str:
    if one.booking is not None:
        return f"Your booking {printable(one.booking)} may lack GPUs."
    what = gpus(one.gpus or ())
    if notice.kind == BEGUN:
        return f"You still hold {what}: stop what you run there, because it can fail at any moment."
    return f"You have reserved {what} beyond that: stop what you run there before the maintenance begins."


def _command(one: Concerned) -> tuple[str, str]:
    if one.booking is not None:
        return "If you book another time", f"canhazgpu cancel {printable(one.booking)}"
    return "To release what you no longer use", f"canhazgpu release --gpu-ids {listed(one.gpus or ())}"


def _facts(booking: Booking) -> list[tuple[str, str]]:
    told = [
        ("GPUs", listed(booking.gpus or ())),
        ("Begin", moment(booking.begin)),
        ("End", moment(booking.end)),
        ("Reason", printable(booking.drain or "", 200)),
        ("By", printable(booking.user)),
        ("Id", printable(booking.id)),
    ]
    return [(name, value) for name, value in told if value]
