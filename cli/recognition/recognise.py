"""Recognises plain command lines of the commands that start often, without the command framework.

The options are in `known_options`, which is generated from the framework's definitions. What is not
recognised beyond doubt is the framework's: help, completion, mistakes, and everything that is rarely written.
"""

from __future__ import annotations

import os

from canhazgpu.cli.recognition.known_options import COMMANDS, MANY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from canhazgpu.cli.recognition.known_options import Meaning

RUN, CHECK = "run", "check"
COMPLETION = ("_CANHAZGPU_COMPLETE", "_CHG_COMPLETE")  # Set by a shell that asks for completions.


def recognise(words: list[str]) -> tuple[str, str, dict[str, Any]] | None:
    """Return module, function and arguments of a command line; None if it is the framework's."""
    if not words or words[0] not in COMMANDS or any(name in os.environ for name in COMPLETION):
        return None
    module, function, options, positions = COMMANDS[words[0]]
    end = words.index("--") if "--" in words else len(words)
    dashed = end < len(words)
    if dashed != (words[0] == RUN) and words[0] != CHECK:  # `run` has a `--` always, `check` sometimes.
        return None
    found = _Line(options, words[1:end])
    if not found.read() or (words[0] in {RUN, CHECK} and found.rest):
        return None
    named = _placed(positions, found.rest + words[end + 1 :])
    return None if named is None else (module, function, found.values | named)


class _Line:
    """The words of a command line before `--`."""

    def __init__(self, options: dict[str, Meaning], words: list[str]) -> None:
        """Store the words; nothing is read yet."""
        self._options, self._words = options, words
        self.values: dict[str, Any] = {}
        self.rest: list[str] = []

    def read(self) -> bool:
        """Return whether every word is recognised, and store what they mean."""
        self._words.reverse()
        while self._words:
            word = self._words.pop()
            if word[:1] != "-":
                self.rest.append(word)
                continue
            name, equals, value = word.partition("=")
            if name not in self._options:
                return False
            parameter, meaning, alone = self._options[name]
            if parameter in self.values or (equals and (isinstance(meaning, bool) or name[:2] != "--")):
                return False
            if not isinstance(meaning, bool):
                found = value if equals else self._next(alone)
                if found is None:
                    return False
                try:
                    meaning = _checked(found, meaning)
                except ValueError:
                    return False
            self.values[parameter] = meaning
        return True

    def _next(self, alone: str | None) -> str | None:
        """Return the value that follows an option, or the one it has `alone`; None if that is not plain."""
        following = self._words[-1] if self._words else "-"
        if following[:1] != "-":
            return self._words.pop()
        return None if following.lstrip("-")[:1].isdigit() else alone


def _checked(value: str, check: str) -> Any:
    """Return what a check makes of a value. Raises ValueError."""
    if not check:
        return value
    home, _, name = check.partition(":")
    return getattr(__import__(home, fromlist=[name]), name)(value)


def _placed(positions: tuple[tuple[str, bool], ...], words: list[str]) -> dict[str, Any] | None:
    """Return the arguments that are not options; None if there are more words than arguments."""
    found: dict[str, Any] = {}
    for name, many in positions:
        if words:
            found[name], words = (words, []) if many == MANY else (words[0], words[1:])
    return None if words else found
