"""For how long somebody was where they have no right to be, in bursts."""

from dataclasses import dataclass

RETURNS = 4  # So many times use has to come back at least, to be told of for single looks.


@dataclass
class Use:
    """For how long somebody was without right on a card, in bursts, since they were last told of.

    What lies between two scans counts as use when both saw it, as when the card could not be read.
    """

    bursts: int = 0
    ms: int = 0
    last_ms: int = 0
    there: bool = False
    seen: bool = False
    paused_ms: int = 0  # For how long they are not there now,
    absent_ms: int = 0  # as far as that can be seen.

    def pass_time(self, at_ms: int, unseen_ms: int, *, there: bool, seen: bool) -> None:
        """Follow it until now, and say how it is from now on; so long a pause may be between two scans."""
        passed, self.last_ms = at_ms - self.last_ms, at_ms
        if self.there:
            self.ms += passed
        else:
            self.paused_ms += passed
            self.absent_ms += passed if self.seen else 0
        if there and not self.there:
            if self.bursts == 0 or self.absent_ms > unseen_ms:
                self.bursts += 1
            else:
                self.ms += self.paused_ms
        if there:
            self.paused_ms = self.absent_ms = 0
        self.there, self.seen = there, seen

    def enough(self, confirm: int) -> float:
        """Return how much of `confirm` it may count for: a return is worth a part of it at most."""
        return self.ms + (self.bursts - 1) * confirm / RETURNS
