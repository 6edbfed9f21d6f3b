"""What befalls the daemon: it is killed or stopped, its Redis is killed, the driver does not answer."""

import random
import signal
import time

from bench.truth.real.history import Span, now_ms, since
from bench.truth.real.host import HANGS, PATIENCE, Host
from bench.truth.real.lab import Lab

EACH = ("kill_daemon", "kill_redis", "freeze", "stall")  # In its turn, evenly over a round.
FOLLOW_EVERY = 0.3  # Seconds.
RENEWED_IN = 20.0  # Seconds in which a card that hung, and is well, has to be read again.


class Blows:
    """Strikes when it is time, and follows until the daemon sees again; until then it is excused."""

    def __init__(self, chance: random.Random, host: Host, lab: Lab, seconds: float) -> None:
        """Strike each blow once in so many seconds."""
        self._random, self._host, self._lab = chance, host, lab
        begin = time.monotonic()
        gap = seconds / (len(EACH) + 1)
        self._left = [(begin + gap * (place + 1), blow) for place, blow in enumerate(EACH)]
        self._blow: Span | None = None  # Because of which the daemon does not see; it has no end yet.
        self._over = self._asked = 0.0
        self._back_ms = 0  # When the daemon saw again.
        self._cure = ""

    @property
    def sees(self) -> bool:
        """Whether nothing is the matter with the daemon."""
        return self._blow is None

    def strike(self) -> None:
        """Strike if it is time."""
        if self.sees and self._left and time.monotonic() > self._left[0][0]:
            getattr(self, f"_{self._left.pop(0)[1]}")()

    def _hit(self, text: str, seconds: float, cure: str = "") -> None:
        began = now_ms()
        self._blow = Span((began, began))
        self._lab.history.blind.append(self._blow)
        self._lab.history.note(text)
        self._over, self._cure = time.monotonic() + seconds, cure

    def _kill_daemon(self) -> None:
        self._hit("the daemon is killed", self._random.choice((0.0, 0.5, 1.0)))
        self._host.signal(signal.SIGKILL)

    def _kill_redis(self) -> None:
        self._hit("Redis is killed", 0.0)
        self._host.kill_redis()

    def _freeze(self) -> None:
        self._hit("the daemon is stopped", self._random.choice((0.5, 1.0, 2.0)), "continue")
        self._host.signal(signal.SIGSTOP)

    def _stall(self) -> None:
        self._hit("the driver does not answer", 1.0, "answer")
        self._lab.leave_unread()
        self._lab.stalled = True
        self._lab.say_again()

    def recover(self) -> None:
        """End what the last blow did, and see whether the daemon sees again."""
        if self._blow is None or time.monotonic() < self._over:
            return
        if time.monotonic() > self._over + PATIENCE:
            raise RuntimeError(f"the daemon does not come back: {self._host.log.read_text()[-2000:]}")
        if self._cure == "continue":
            self._host.signal(signal.SIGCONT)
        elif self._cure == "answer":
            self._lab.stalled = False
            self._lab.say_again()
        self._cure = ""
        if not self._host.runs:
            self._host.start()
        elif self._reads():
            self._blow.ended = since(now_ms())
            self._back_ms = now_ms()
            self._lab.history.note("the daemon sees again")
            self._blow = None

    def follow(self) -> None:
        """See which cards that hung are read again; the product says of each why it is not."""
        if self.sees and self._lab.unread and time.monotonic() > self._asked + FOLLOW_EVERY:
            self._asked = time.monotonic()
            self._reads()
            for card, state in self._lab.unread.items():
                self._check_renewed(card, max(state.began[1], self._lab.states[card].began[1], self._back_ms))

    def _check_renewed(self, card: str, since_ms: int) -> None:
        if self._lab.states[card].state == "ok" and now_ms() - since_ms > RENEWED_IN * 1000:
            raise RuntimeError(f"{card} is well, and is not read for more than {RENEWED_IN:.0f} s")

    def _reads(self) -> bool:
        """Tell whether the daemon reads all cards but those that failed, or that it says hung."""
        found = self._host.looked()
        unread = {f"c{gpu['gpu_id']}": gpu for gpu in found if gpu["status"] in ("ERROR", "UNKNOWN")}
        hang = {card for card, gpu in unread.items() if HANGS.search(gpu["reason"] or "")}
        failed = {card for card, state in self._lab.states.items() if state.state != "ok"}
        excused = failed | (hang & self._lab.unread.keys())
        if not found or unread.keys() - excused:
            return False
        for card in self._lab.unread.keys() - unread.keys():
            self._lab.read_again(card)
        return True
