"""Callers over the socket, as programs are: who has no answer asks again under the same name."""

import random
import threading
import time
import uuid
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any

from bench.faults.host import PATIENCE, Host
from bench.faults.oracle import WORDS, Oracle

CALLERS = 6
SURE = 2 * PATIENCE  # Seconds until each request must have been answered.
ANSWERS = {200, 201, 409}
NOT_NOW, BROKEN = {503, 507}, 500


class Caller:
    """Reserves and releases as root; the oracle hears every answer."""

    def __init__(self, host: Host, oracle: Oracle) -> None:
        """Ask of this host."""
        self._host, self._oracle = host, oracle
        self.over = threading.Event()
        self.unanswered = 0

    def reserve(self, **wanted: Any) -> str | None:
        """Ask for cards by hand; return the reservation's id, None where it was refused."""
        asked = time.monotonic()
        answer = self._ask("", {"kind": "manual", "duration": "6h", "wait": False, **wanted})
        if "reservation" not in answer:
            return None
        name = str(answer["reservation"]["id"])
        self._oracle.granted(name, cards(answer), "root", asked)
        return name

    def release(self, name: str) -> None:
        """Give a reservation back."""
        self._oracle.ending(name)
        if self._ask("/release", {"ids": [name]}) is not None:
            self._oracle.ended(name)

    def _ask(self, what: str, body: dict[str, Any]) -> Any:
        body, deadline = {**body, "operation": uuid.uuid4().hex}, time.monotonic() + SURE
        while True:
            status, answer = 0, dict[str, Any]()
            try:
                status, answer = self._host.post(f"/v1/reservations{what}", body)
            except (OSError, HTTPException, ValueError):
                self.unanswered += 1
            if status in ANSWERS:
                return answer
            if status and status not in NOT_NOW:
                self._oracle.fail(WORDS, f"{status} {answer}")
                if status < BROKEN:
                    return {}
            if time.monotonic() > deadline:
                self._oracle.fail(WORDS, f"no answer for {SURE:.0f} s")
                return {}
            time.sleep(0.05)


class Storm:
    """Callers who reserve and release as fast as they can."""

    def __init__(self, host: Host, oracle: Oracle) -> None:
        """Begin."""
        self._oracle = oracle
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._mine: list[str] = []
        self._callers = [Caller(host, oracle) for _ in range(CALLERS)]
        self._threads = [
            threading.Thread(target=self._act, args=(caller, random.Random(number)))
            for number, caller in enumerate(self._callers)
        ]
        for thread in self._threads:
            thread.start()

    def _act(self, caller: Caller, chance: random.Random) -> None:
        while not self._over.wait(chance.uniform(0, 0.05)):
            if chance.random() < 0.5:  # noqa: PLR2004
                with self._lock:
                    name = self._mine.pop(chance.randrange(len(self._mine))) if self._mine else None
                if name:
                    caller.release(name)
            else:
                name = caller.reserve(count=chance.randint(1, 2))
                if name:
                    with self._lock:
                        self._mine.append(name)

    def end(self) -> int:
        """Let nobody ask any more; return how often somebody had no answer."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        return sum(caller.unanswered for caller in self._callers)


def cards(answer: Mapping[str, Any]) -> list[str]:
    """Return the UUIDs of the cards that an answer grants."""
    return str(answer["environment"]["NVIDIA_VISIBLE_DEVICES"]).split(",")
