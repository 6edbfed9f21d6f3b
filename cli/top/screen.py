"""The terminal of `top`, by curses: draws lines, returns keys, and gives the terminal back as it was."""

import curses
import os
import re
import select
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Self

from canhazgpu.cli.display.terminal import width_of

SGR = re.compile(r"\x1b\[(\d+)m")
ESCAPE_DELAY = 25  # Milliseconds after which an escape is the key, not the beginning of another.
ENDING = (signal.SIGTERM, signal.SIGHUP)
HANGUP = 50  # Readings in a row of a terminal that is gone.
NAMES = {
    curses.KEY_UP: "up",
    curses.KEY_DOWN: "down",
    curses.KEY_NPAGE: "pagedown",
    curses.KEY_PPAGE: "pageup",
    curses.KEY_HOME: "home",
    curses.KEY_BACKSPACE: "backspace",
    curses.KEY_ENTER: "enter",
    curses.KEY_F1: "f1",
}
REDRAW = "\x0c"  # Ctrl-L.


class NoScreen(Exception):
    """The terminal cannot do what is needed."""


class Screen:
    """A context: within it the terminal is ours, and every way out of it gives the terminal back."""

    def __init__(self, *, colour: bool) -> None:
        """Take nothing yet."""
        self._colour = colour
        self._attributes = {"1": curses.A_BOLD, "2": curses.A_DIM}
        self._silent = 0

    def __enter__(self) -> Self:
        """Take the terminal. Raises NoScreen."""
        self._wakes, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before = {number: signal.signal(number, _end) for number in ENDING}
        self._before[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, lambda *_: None)
        self._wakeup = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        try:
            curses.setupterm()
            if not curses.tigetstr("cup"):
                raise NoScreen("its cursor cannot be moved")
            self._window = curses.initscr()
        except curses.error as error:
            self._restore_signals()
            raise NoScreen(str(error)) from error
        except NoScreen:
            self._restore_signals()
            raise
        try:
            self._prepare()
        except BaseException:
            self._give_back()
            raise
        return self

    def _prepare(self) -> None:
        curses.set_escdelay(ESCAPE_DELAY)
        curses.noecho()
        curses.cbreak()
        self._window.keypad(True)  # noqa: FBT003 - as curses has it
        self._window.nodelay(True)  # noqa: FBT003
        with suppress(curses.error):
            curses.curs_set(0)
        if self._colour and curses.has_colors():
            curses.start_color()
            with suppress(curses.error):
                curses.use_default_colors()
            for number in range(1, 8):
                curses.init_pair(number, number, -1)
                self._attributes[str(30 + number)] = curses.color_pair(number)
            self._attributes["90"] = curses.A_DIM

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the terminal back."""
        self._give_back()

    def _give_back(self) -> None:
        with suppress(curses.error):
            curses.endwin()
        self._restore_signals()

    def _restore_signals(self) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def size(self) -> tuple[int, int]:
        """The lines and columns of the terminal, as they are now."""
        columns, lines = os.get_terminal_size(sys.__stdout__.fileno() if sys.__stdout__ else 1)
        if (lines, columns) != self._window.getmaxyx() and lines and columns:
            curses.resizeterm(lines, columns)
            self._window.clear()
        lines, columns = self._window.getmaxyx()
        return lines, columns

    def draw(self, lines: Sequence[str]) -> None:
        """Show these lines; curses sends only what has changed."""
        height, width = self._window.getmaxyx()
        self._window.erase()
        for row, line in enumerate(lines[:height]):
            self._draw_line(row, line, width)
        self._window.refresh()

    def _draw_line(self, row: int, line: str, width: int) -> None:
        column, attribute = 0, 0
        for position, piece in enumerate(SGR.split(line)):
            if position % 2:
                attribute = self._attributes.get(piece, 0)
                continue
            text = piece
            while width_of(text) > width - column:
                text = text[:-1]
            with suppress(curses.error):  # The last cell of the screen is written, and then refused.
                self._window.addstr(row, column, text, attribute)
            column += width_of(text)

    def wake(self) -> None:
        """End the current wait; other threads may call this."""
        with suppress(BlockingIOError):
            os.write(self._wake, b"\0")

    def wait(self) -> None:
        """Wait for a key, a signal or `wake`. Raises SystemExit if the terminal is gone."""
        ready, _, _ = select.select([sys.stdin, self._wakes], [], [])
        if self._wakes in ready:
            with suppress(BlockingIOError):
                os.read(self._wakes, 4096)
        self._silent = self._silent + 1 if sys.stdin in ready else 0
        if self._silent > HANGUP:
            raise SystemExit(128 + signal.SIGHUP)

    def pressed(self) -> Iterator[str]:
        """Yield the keys that were pressed: characters, or names as in NAMES."""
        while True:
            try:
                key = self._window.get_wch()
            except curses.error:
                return
            self._silent = 0
            if key == REDRAW:
                self._window.redrawwin()
            elif isinstance(key, str):
                yield key
            elif key in NAMES:
                yield NAMES[key]


def _end(number: int, frame: FrameType | None) -> None:
    del frame
    raise SystemExit(128 + number)
