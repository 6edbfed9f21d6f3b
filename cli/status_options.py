"""The options of `canhazgpu status`: which GPUs, in which order, as lines, as a table or as JSON."""

from __future__ import annotations

import sys

from canhazgpu.cli.exit_codes import USAGE
from canhazgpu.cli.output import client, examples, fail, own_name
from canhazgpu.cli.status import plain, show, watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Annotated, Any

    import typer

    from canhazgpu.cli import arguments
    from canhazgpu.cli.status import Lines, Selection

EPILOG = examples(
    "canhazgpu status",
    "canhazgpu status --long --sort memory",
    "canhazgpu status --free",
    "canhazgpu status --long --mine",
    "canhazgpu status --json | jq -r '.[] | .status'",
    "canhazgpu status --watch",
    "canhazgpu status --all --free",
)
SORTS = "gpu, memory, util, temp, user or until"


def _orders(incomplete: str) -> list[str]:
    from canhazgpu.cli.display.gpu_filter import ORDERS  # noqa: PLC0415 - for completion alone

    return [one for one in ORDERS if one.startswith(incomplete)]


def status(
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON array with one object per GPU.")
    ] = False,
    long: Annotated[
        bool,
        typer.Option(
            "--long",
            "-l",
            help="Print a table: state, user, memory, utilisation, temperature, times, model, note and"
            " processes. On a narrow terminal, the last three are left out first. Below it are the bookings"
            " of the next 24 hours.",
        ),
    ] = False,
    user: Annotated[str | None, arguments.user_option("Only GPUs that this user holds or uses.")] = None,
    mine: Annotated[bool, typer.Option("--mine", help="Only GPUs that you hold or use.")] = False,
    free: Annotated[bool, typer.Option("--free", help="Only GPUs that are available.")] = False,
    sort: Annotated[
        str,
        typer.Option(
            help=f"Sort by {SORTS}. Memory, utilisation and temperature are sorted from high to low.",
            metavar="KEY",
            autocompletion=_orders,
        ),
    ] = "gpu",
    no_color: Annotated[bool, typer.Option("--no-color", help="Disable colours.")] = False,
    watching: Annotated[bool, typer.Option("--watch", help="Refresh the output until Ctrl-C.")] = False,
    every_host: arguments.AllHosts = False,
    host: arguments.Host = None,
) -> None:
    """Show the state of every GPU.

    A GPU is available, in use, in use without a reservation, drained, not managed, failed or unknown. Scripts
    can rely on the lines: their format does not change, and only a terminal gets colours. With --long,
    NO_COLOR, FORCE_COLOR and TERM=dumb are respected.
    """
    if as_json and watching:
        fail("--json and --watch cannot be used together; try `canhazgpu events --follow --json`", USAGE)
    if as_json and long:
        fail(
            "--json and --long cannot be used together: the JSON has everything, and that of"
            " `canhazgpu bookings` the bookings",
            USAGE,
        )
    if sum((user is not None, mine, free)) > 1:
        fail("use one of --user, --mine and --free", USAGE)
    select = _selection(user, sort, mine=mine, free=free)
    lines = _table(colour=not no_color) if long else None
    if every_host or host is not None:
        from canhazgpu.cli.fleet.hosts import show_hosts  # noqa: PLC0415 - few are in a fleet

        if watching or mine:
            fail("--watch and --mine show this host only: leave out --all and --host", USAGE)
        text = lines or (lambda gpus: plain(gpus, colour=not no_color, margin="  "))
        chosen = select if user is not None or free else None
        show_hosts("status", "gpus", text, host=host, as_json=as_json, select=chosen)
        return
    below = _bookings(user, mine=mine) if long else str
    if watching:
        watch(colour=not no_color, select=select, lines=lines, below=below)
    show(as_json=as_json, colour=not no_color, select=select, lines=lines, below=below)


def _selection(user: str | None, order: str, *, mine: bool, free: bool) -> Selection:
    if user is None and not mine and not free and order == "gpu":
        return list
    from canhazgpu.cli.display.gpu_filter import ORDERS, Choice  # noqa: PLC0415 - few need it

    if order not in ORDERS:
        fail(f"--sort: use {SORTS}", USAGE)

    def select(gpus: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        own = [one["reservation"]["id"] for one in client().get("/v1/reservations/own")] if mine else None
        return Choice(user=user, free=free, own=own, order=order).of(gpus)

    return select


def _table(*, colour: bool) -> Lines:
    from canhazgpu.cli.display.gpu_table import gpu_table  # noqa: PLC0415 - lines do not need it
    from canhazgpu.cli.display.terminal import columns, is_unicode, shows_colour  # noqa: PLC0415

    def lines(gpus: list[dict[str, Any]]) -> str:
        stream = sys.stdout
        bright = shows_colour(stream, wanted=colour)
        return gpu_table(gpus, columns(stream), colour=bright, unicode=is_unicode(stream))

    return lines


def _bookings(user: str | None, *, mine: bool) -> Callable[[], str]:
    """Return what writes the bookings of the next 24 hours: those of a user, one's own, or all."""
    from canhazgpu.cli.display.booking_table import ask_for_bookings, bookings_below  # noqa: PLC0415
    from canhazgpu.cli.display.terminal import columns  # noqa: PLC0415

    whose = own_name() if mine else user
    return lambda: bookings_below(ask_for_bookings(client(), whose), columns(sys.stdout))
