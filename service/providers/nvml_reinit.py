"""Runs a second helper now and then while a card fails, because NVML caches what it found at its start."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from canhazgpu.service.providers.nvml_process import Card, Ended, Helper
from canhazgpu.service.providers.provider import ProviderError

DEVICES = Path("/proc/driver/nvidia/gpus")  # It has an entry for each card of the driver.
FIRST, LAST = 2.0, 120.0  # Seconds between attempts, doubled from the first to the last value.


class View(msgspec.Struct, frozen=True):
    """What a helper sees: UUIDs by index, the failing cards, and the number of readable ones."""

    cards: dict[int, str]
    bad: frozenset[Card]
    good: int


class Reinitializer:
    """Checks with a newly initialised library whether a failing card has recovered, or a new card is present.

    The current helper continues in the meantime, and is replaced only by one that sees more. Nothing is
    started while all cards work.
    """

    def __init__(
        self,
        start: Callable[[], Helper],
        end: Callable[[Helper], None],
        patience: float,
        devices: Path = DEVICES,
    ) -> None:
        """`start` creates a helper; it raises OSError or ProviderError.

        A helper without progress for `patience` seconds counts as hanging.
        """
        self._start, self._end, self._patience, self._devices = start, end, patience, devices
        self._listed = self._listed_then = self._list()
        self._helper: Helper | None = None
        self._skip: frozenset[Card] = frozenset()
        self._about: frozenset[Card] = frozenset()
        self._pause, self._due, self._bad_at, self._well = FIRST, 0.0, 0.0, True

    def step(self, view: View) -> tuple[Helper, frozenset[Card]] | None:
        """Continue; return a helper that sees more than `view`, and the cards that were left out."""
        listed, now = self._list(), time.monotonic()
        bad = view.bad | (frozenset() if listed == self._listed else {"another"})
        if not bad:
            self._well = True
            self.close()
            return None
        if bad != self._about or now - self._bad_at > LAST:
            self._about, self._pause, self._due = bad, FIRST, now + FIRST
        elif self._well:
            self._due = now + self._pause
        self._well, self._bad_at = False, now
        if self._helper:
            return self._poll_helper(self._helper, view)
        if now >= self._due:
            self._listed_then = listed
            self._begin(frozenset())
        return None

    def close(self) -> None:
        """End the second helper, if there is one."""
        helper, self._helper = self._helper, None
        if helper:
            self._end(helper)

    def _begin(self, skip: frozenset[Card]) -> None:
        self._skip = skip
        try:
            self._helper = self._start()
            self._helper.ask(skip)
        except (OSError, ProviderError):
            self._give_up()

    def _poll_helper(self, helper: Helper, view: View) -> tuple[Helper, frozenset[Card]] | None:
        try:
            answer = helper.poll()
            if answer is None and helper.seconds_without_progress < self._patience:
                return None
        except (Ended, OSError):
            answer = None
        except ValueError:
            answer = {"error": 0}
        if answer is None:
            self._leave_out(helper, view)
            return None
        seen = view_of(helper, self._skip) if answer.keys().isdisjoint({"error", "import"}) else None
        if seen:
            self._listed = self._listed_then
        if seen is None or (seen.cards == view.cards and seen.good <= view.good):
            self._give_up()
            return None
        self._helper = None
        self._pause = min(self._pause * 2, LAST)
        return helper, self._skip

    def _leave_out(self, helper: Helper, view: View) -> None:
        """Start again without the card at which it crashed or hangs, unless that is the only failing card."""
        at = helper.at
        if at is None or at in self._skip or view.bad <= self._skip | {at}:
            self._give_up()
            return
        self.close()
        self._begin(self._skip | {at})

    def _give_up(self) -> None:
        self.close()
        self._pause = min(self._pause * 2, LAST)
        self._due = time.monotonic() + self._pause

    def _list(self) -> frozenset[str]:
        try:
            return frozenset(os.listdir(self._devices))  # noqa: PTH208 - names, at each scan
        except OSError:
            return frozenset()


def view_of(helper: Helper, skipped: frozenset[Card]) -> View:
    """Return the view of a helper that has answered."""
    rows = helper.rows
    broken = {row.get("uuid", row["index"]) for row in rows if "error" in row or "unbelievable" in row}
    bad = skipped | broken
    return View({row["index"]: row.get("uuid", "") for row in rows}, bad, len(rows) - len(bad))
