"""The command `canhazgpu top`: connects the feed, the session and the screen."""

import os
import sys
from typing import Annotated

import typer

from canhazgpu.cli import arguments
from canhazgpu.cli.display.terminal import is_unicode, shows_colour
from canhazgpu.cli.exit_codes import REFUSED, USAGE
from canhazgpu.cli.output import client, examples, fail
from canhazgpu.cli.top.feed import Feed
from canhazgpu.cli.top.frame import frame
from canhazgpu.cli.top.session import Session
from canhazgpu.events.durations import parse_duration

EPILOG = examples("canhazgpu top", "canhazgpu top --interval 10s")
LEAST = 0.5


def top(
    *,
    interval: Annotated[
        str,
        typer.Option(
            "--interval",
            "-i",
            help="Time between two refreshes, at least 500ms.",
            metavar="TIME",
            callback=arguments.non_empty,
        ),
    ] = "2s",
    no_color: Annotated[bool, typer.Option("--no-color", help="Disable colours.")] = False,
) -> None:
    """Show a live, full-screen view of GPUs, reservations, the queue and open violations.

    Keys: f filters, s sorts, u chooses a user, e extends and r releases your own reservations, h shows
    help, q quits.
    """
    seconds = _seconds(interval)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        fail("top needs a terminal: use `canhazgpu status --long`, or `canhazgpu status --watch`", USAGE)
    if os.environ.get("TERM", "dumb") in ("dumb", ""):
        fail("top cannot be shown on this terminal (TERM=dumb): use `canhazgpu status --long`", USAGE)
    feed = Feed(client(), seconds)
    feed.read()  # If the service is not reachable at the start, that is an error.
    if feed.latest.trouble:
        raise feed.latest.trouble
    _show(feed, colour=shows_colour(sys.stdout, wanted=not no_color))


def _seconds(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        fail(f"--interval: {error}", USAGE)
    if seconds < LEAST:
        fail(f"--interval: '{text}' is too short: use at least 500ms", USAGE)
    return seconds


def _show(feed: Feed, *, colour: bool) -> None:
    try:
        from canhazgpu.cli.top.screen import NoScreen, Screen  # noqa: PLC0415 - curses may be missing
    except ImportError as error:
        fail(f"top needs curses, which this Python does not have ({error}): use `canhazgpu status`", REFUSED)
    session, unicode = Session(), is_unicode(sys.stdout)
    try:
        with Screen(colour=colour) as screen:
            feed.begin(screen.wake)
            while not session.has_quit:
                height, width = screen.size
                screen.draw(frame(feed.latest, session, width, height, unicode=unicode))
                screen.wait()
                if feed.failure:
                    raise feed.failure
                for key in screen.pressed():
                    request = session.press(key)
                    if request:
                        feed.ask(request)
    except NoScreen as error:
        fail(f"top cannot be shown on this terminal ({error}): use `canhazgpu status --long`", USAGE)
