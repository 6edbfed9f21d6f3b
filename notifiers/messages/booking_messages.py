"""The wording of notices about bookings: a reminder, its begin, that it is late, and that it was missed."""

from collections.abc import Callable

from canhazgpu.events.notices import HOLDER, OFFENDER, Notice
from canhazgpu.events.reservations import Booking, Obstacle
from canhazgpu.events.sanitize import printable
from canhazgpu.events.spelling.gpu_numbers import without_parts
from canhazgpu.notifiers.messages.content import Commands, Content, Sentence, Table
from canhazgpu.notifiers.messages.phrases import capitalised, gpus, length, listed, moment, reader_of

MOST = 8  # Obstacles that are listed.
BOOKINGS = ("To see all bookings", "canhazgpu bookings")
STATUS = ("To see all GPUs", "canhazgpu status")
WHY = {
    "drained": "is drained",
    "error": "has an error",
    "unknown": "cannot be read",
    "unmanaged": "is not managed",
    "divided": "is divided into MIG instances",
}


def describe_booking(notice: Notice, booking: Booking) -> Content:
    """Return the content of a notice about a booking."""
    yours = reader_of(notice) in (OFFENDER, HOLDER)
    user = printable(booking.user)
    whose = "your" if yours else f"{user}'s"
    what, meaning, rows, mood = _KINDS[notice.kind](notice, booking, whose)
    obstacles = tuple(_facts_of(one) for one in (booking.obstacles or ())[:MOST])
    return Content(
        subject=what,
        headline=f"{user}, {what}." if yours else f"{capitalised(what, user)}.",
        parts=(
            Sentence(meaning),
            *((Commands("", rows),) if yours and rows else ()),
            *((Table("Not available:", (), obstacles),) if obstacles else ()),
            Table("The booking:", (), tuple(_facts(booking))),
            Commands("", (BOOKINGS, STATUS), aside=True),
        ),
        mood=mood,
    )


Told = tuple[str, str, tuple[tuple[str, str], ...], str]


def _gpus(booking: Booking) -> str:
    if booking.gpus is not None:
        return gpus(booking.gpus)
    return "1 GPU" if booking.count == 1 else f"{booking.count} GPUs"


def _reminder(notice: Notice, booking: Booking, whose: str) -> Told:
    left = length(notice.created, booking.begin)
    when = f"{f'in {left}, ' if left else ''}at {moment(booking.begin)}"
    what = f"{whose} booking of {_gpus(booking)} begins {when}"
    meaning = f"It ends at {moment(booking.end)}. The GPUs are chosen when it begins."
    if booking.gpus is not None:
        meaning = f"It ends at {moment(booking.end)}."
    return what, meaning, (("If you do not need it", f"canhazgpu cancel {printable(booking.id)}"),), "plain"


def _begun(notice: Notice, booking: Booking, whose: str) -> Told:
    del notice
    held = booking.gpus or ()
    what = (
        f"{whose} booking has begun: {gpus(held)} {'is' if len(without_parts(held)) == 1 else 'are'} reserved"
    )
    rows = (
        ("To use them in a shell", 'code=$(canhazgpu env) && eval "$code"'),
        ("To release GPUs that you do not need", f"canhazgpu release --gpu-ids {listed(held)}"),
    )
    meaning = f"Reserved until {moment(booking.end)}."
    if booking.deadline is not None:
        are = "they are" if len(held) > 1 else "it is"
        meaning += f" If you have not used {gpus(held)} by {moment(booking.deadline)}, {are} released."
    return what, meaning, rows, "good"


def _late(notice: Notice, booking: Booking, whose: str) -> Told:
    del notice
    what = f"{whose} booking of {_gpus(booking)} cannot begin yet: not enough GPUs are free"
    meaning = (
        "It gets the next GPUs that become free, before all requests in the queue, and still ends at"
        f" {moment(booking.end)}. Users of GPUs without a reservation are notified that they have to stop."
    )
    return what, meaning, (("If you no longer need it", f"canhazgpu cancel {printable(booking.id)}"),), "bad"


def _missed(notice: Notice, booking: Booking, whose: str) -> Told:
    del notice
    what = f"{whose} booking of {_gpus(booking)} has ended and never began"
    meaning = "Not enough GPUs became free before its end."
    if booking.reason == "off":
        meaning = "The canhazgpu service was not running at that time."
    which = f"--gpus {booking.count}" if booking.gpus is None else f"--gpu-ids {listed(booking.gpus)}"
    again = f"canhazgpu reserve {which} --wait"
    return what, meaning, (("To reserve now", again),), "bad"


def _facts_of(one: Obstacle) -> tuple[str, str]:
    who = ", ".join(map(printable, one.users or ())) or "unknown"
    if one.why == "held":
        why = f"reserved by {who}" + (", should have ended" if one.over else "")
    elif one.why == "in_use":
        why = f"in use by {who}"
    else:
        why = WHY.get(one.why, printable(one.why))
    return gpus((one.gpu,)), why


def _facts(booking: Booking) -> list[tuple[str, str]]:
    told = [
        ("GPUs", listed(booking.gpus) if booking.gpus else str(booking.count)),
        ("Start", moment(booking.begin)),
        ("End", moment(booking.end)),
        ("Note", booking.note and printable(booking.note, 200)),
        ("Label", booking.label and printable(booking.label)),
        ("Id", printable(booking.id)),
    ]
    return [(name, value) for name, value in told if value]


_KINDS: dict[str, Callable[[Notice, Booking, str], Told]] = {
    "booking-reminder": _reminder,
    "booking-begun": _begun,
    "booking-late": _late,
    "booking-missed": _missed,
}
