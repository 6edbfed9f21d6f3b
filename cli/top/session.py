"""What the user of `top` has chosen, and what a key does. It is pure: requests are returned, not sent."""

from dataclasses import dataclass
from typing import Any

from canhazgpu.cli.display.gpu_filter import ORDERS
from canhazgpu.events.durations import parse_duration
from canhazgpu.events.sanitize import printable

FILTERS = ("all", "mine", "free", "unreserved")
SORTS = tuple(ORDERS)
ENTER, ESCAPE, ERASE = ("\n", "\r", "enter"), "\x1b", ("\x7f", "\b", "backspace")
LONGEST = 60  # Characters of an answer.
EXTEND = "Extend your manual reservations by (2h; 2h 0,3 for some GPUs; Enter alone: cancel): "
RELEASE = "Release which of your GPUs (0,3; all: your manual reservations; Enter alone: cancel): "
USER = "Only GPUs of this user (Enter alone: of all users): "
MOVES = {"down": 1, "j": 1, "up": -1, "k": -1, "pagedown": 10, " ": 10, "pageup": -10}


@dataclass(frozen=True)
class Request:
    """A change that the user asked for: the last part of the API's path, and the body."""

    verb: str
    body: dict[str, Any]


@dataclass
class Session:
    """The choices. While there is a `prompt`, keys are its answer."""

    filter: str = FILTERS[0]
    order: str = SORTS[0]
    user: str | None = None
    scroll: int = 0
    helping: bool = False
    prompt: str = ""
    answer: str = ""
    complaint: str = ""
    has_quit: bool = False
    seen: int = 0  # The number of the last message that was shown,
    dismissed: int = 0  # and of the last one that a key has removed.

    def press(self, key: str) -> Request | None:
        """Do what a key means; return the request that it makes, if any."""
        if self.prompt:
            return self._type(key)
        self.complaint, self.dismissed = "", self.seen
        if key == "q":
            self.has_quit = True
        elif self.helping or key in ("h", "?", "f1"):
            self.helping = not self.helping
        elif key == "f":
            self.filter = FILTERS[(FILTERS.index(self.filter) + 1) % len(FILTERS)]
        elif key == "s":
            self.order = SORTS[(SORTS.index(self.order) + 1) % len(SORTS)]
        elif key in MOVES:
            self.scroll = max(0, self.scroll + MOVES[key])
        elif key in ("home", "g"):
            self.scroll = 0
        elif key in PROMPTS:
            self.prompt, self.answer = PROMPTS[key], ""
        return None

    def _type(self, key: str) -> Request | None:
        if key == ESCAPE:
            self.prompt = ""
        elif key in ENTER:
            prompt, self.prompt = self.prompt, ""
            return self._answered(prompt, self.answer.strip())
        elif key in ERASE:
            self.answer = self.answer[:-1]
        elif len(key) == 1 and key.isprintable() and len(self.answer) < LONGEST:
            self.answer += key
        return None

    def _answered(self, prompt: str, answer: str) -> Request | None:
        if prompt == USER:
            self.user = answer or None
            return None
        if not answer:
            return None
        try:
            return _extension(answer) if prompt == EXTEND else _release(answer)
        except ValueError as error:
            self.complaint = str(error)
            return None


PROMPTS = {"e": EXTEND, "r": RELEASE, "u": USER}


def _extension(answer: str) -> Request:
    duration, _, gpus = answer.partition(" ")
    parse_duration(duration)
    return Request("extend", {"duration": duration, **({"gpus": _indices(gpus)} if gpus.strip() else {})})


def _release(answer: str) -> Request:
    return Request("release", {} if answer == "all" else {"gpus": _indices(answer)})


def _indices(text: str) -> list[int]:
    words = text.replace(",", " ").split()
    if not all(word.isascii() and word.isdigit() and len(word) < 5 for word in words):  # noqa: PLR2004 - 1023
        raise ValueError(f"'{printable(text)}' is not a list of GPUs: write it like 1,3")
    return sorted(set(map(int, words)))
