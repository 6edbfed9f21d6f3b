"""`canhazgpu cancel`: cancel a booking, or leave the queue; administrators cancel those of others."""

from __future__ import annotations

import sys

from canhazgpu.cli import arguments, values
from canhazgpu.cli.exit_codes import USAGE
from canhazgpu.cli.output import client, examples, fail, print_json
from canhazgpu.cli.status_lines import foreign
from canhazgpu.client.reservations import post
from canhazgpu.events.sanitize import LONGEST_WORDS, NAME_LIMIT
from canhazgpu.events.spelling.gpu_numbers import spell_gpu

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Annotated, Any

    import typer

    from canhazgpu.cli.completion import candidates

BOOKING = "b"  # The first letter of the id of a booking.
EPILOG = examples(
    "canhazgpu cancel",
    "canhazgpu cancel r1796017013625-8",
    "canhazgpu cancel b1796017013625-8  # a booking",
    "canhazgpu cancel --all",
    "canhazgpu cancel --user bob --all  # administrators only",
)


def cancel(
    requests: Annotated[
        list[str] | None,
        typer.Argument(
            help="Ids from `queue` or `bookings`, or the start of them.",
            metavar="[ID]...",
            autocompletion=candidates.requests,
        ),
    ] = None,
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="Cancel all waiting requests (not bookings).")
    ] = False,
    user: Annotated[
        str | None, arguments.user_option("Cancel those of this user (administrators only).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
) -> None:
    """Cancel your waiting requests for GPUs, and your bookings.

    Without an id, your request is cancelled if you have only one. The waiting command says so and exits with
    an error.
    """
    if requests and everything:
        fail("ids and --all cannot be used together", USAGE)
    body: dict[str, Any] = {"all": everything, **arguments.without_none(user=user)}
    if requests:
        if not all(word.strip() and len(word) <= NAME_LIMIT for word in requests):
            fail("an id is empty or too long; `canhazgpu queue` shows the ids", USAGE)
        ids = [_checked(word, "" if user is None else f" --user {user}") for word in requests]
        booked = [one for one in ids if one.startswith(BOOKING)]
        if booked:
            _cancel_bookings(booked, body, others=len(ids) > len(booked), as_json=as_json)
            return
        body["ids"] = ids
    rows = post(client(), "/v1/queue/cancel", body)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        gpus = f"GPU {','.join(map(spell_gpu, row['gpus']))}" if row["gpus"] else f"{row['count']} GPU(s)"
        if row.get("profile"):
            from canhazgpu.events.spelling.gpu_counts import describe_request  # noqa: PLC0415 - few need it

            gpus = foreign(describe_request(row))
        note = f" [{foreign(row['note'], LONGEST_WORDS)}]" if row["note"] else ""
        sys.stdout.write(f"Cancelled {row['id']} of {foreign(row['user'])}, which waited for {gpus}{note}\n")
    if not rows:
        whose = "you have no request" if user is None else f"{foreign(user)} has no request"
        sys.stdout.write(f"Nothing to cancel: {whose} in the queue\n")


def _cancel_bookings(ids: list[str], body: dict[str, Any], *, others: bool, as_json: bool) -> None:
    from canhazgpu.cli.reservations.bookings import spell_booking  # noqa: PLC0415 - few cancel a booking

    if others:
        fail("bookings and waiting requests cannot be cancelled together: name only one of both", USAGE)
    whose = arguments.without_none(user=body.get("user"))
    rows = post(client(), "/v1/bookings/cancel", {"ids": ids, **whose})
    if as_json:
        print_json(rows)
        return
    for row in rows:
        note = f" [{foreign(row['note'], LONGEST_WORDS)}]" if row["note"] else ""
        booking = f"{row['id']} of {foreign(row['user'])}: {spell_booking(row)}"
        sys.stdout.write(f"Cancelled the booking {booking}{note}\n")


def _checked(word: str, ending: str) -> str:
    """Return an id. A position is none: it may be another request's before it is typed."""
    if word.isascii() and word.isdecimal():
        fail(_by_id(word, client().get("/v1/queue"), ending), USAGE)
    try:
        return values.non_empty(word)
    except ValueError as error:
        return fail(str(error), USAGE)


def _by_id(position: str, queue: list[dict[str, Any]], ending: str) -> str:
    """Return what to type instead of a position; `ending` is how that ends."""
    for one in queue:
        if str(one["position"]) == position:
            now = (
                f"{position} is a position, which can change; it is currently that of {foreign(one['user'])}"
            )
            return f"{now}: canhazgpu cancel {one['id']}{ending}"
    return f"{position} is neither an id nor a position in the queue; `canhazgpu queue` shows the ids"
