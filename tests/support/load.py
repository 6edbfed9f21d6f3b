"""Callers that reserve and release while Redis is in trouble; no reservation may be lost or doubled."""

import json
import random
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from race.test_race import post
from race.test_wiped import Granted
from support.daemon import Daemon, until

CALLERS = 8
PATIENCE = 90.0  # Seconds until a request must have been answered; a failover takes most of them.


class Crowd:
    """Callers over the socket, which repeat a request that fails because Redis does not answer."""

    def __init__(self, host: Daemon) -> None:
        """Prepare them."""
        self.granted = Granted()
        self.grants = 0
        self._host = host
        self._over = threading.Event()
        self._wrong: list[str] = []

    @contextmanager
    def at_work(self) -> Iterator["Crowd"]:
        """Let them work; at the end, every granted reservation is there, and no GPU was granted twice."""
        threads = [threading.Thread(target=self._act, args=(turn,)) for turn in range(CALLERS)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._over.set()
            for thread in threads:
                thread.join()
        assert self._wrong == []
        assert self.granted.twice == []
        until(self._is_shown, 20, str(self.granted.live))

    def wait_for_grants(self, number: int, seconds: float = PATIENCE) -> None:
        """Wait until so many more reservations were granted."""
        goal = self.grants + number
        until(lambda: self.grants >= goal or self._wrong, seconds, str(self._wrong))
        assert self._wrong == []

    def _act(self, turn: int) -> None:
        chance = random.Random(turn)
        while not self._over.wait(chance.uniform(0, 0.15)):
            if chance.random() < 0.5:
                name = self.granted.choose_release(chance)
                if name:
                    self._ask("/release", {"ids": [name]})
                continue
            answer = self._ask("", {"kind": "manual", "count": chance.randint(1, 2), "wait": False})
            if "reservation" in answer:
                self.granted.add(answer["reservation"]["id"], answer["reservation"]["gpus"])
                self.grants += 1

    def _ask(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        """Repeat the request as one operation until it is answered, as the commands do."""
        body, deadline = {**body, "operation": uuid.uuid4().hex}, time.monotonic() + PATIENCE
        while True:
            status, answer = post(self._host, f"/v1/reservations{what}", body)
            if status in {200, 201, 409}:
                return answer
            if status != 503 or time.monotonic() > deadline:
                self._wrong.append(f"{status} {answer}")
                return {}
            time.sleep(0.05)

    def _is_shown(self) -> bool:
        done = self._host.run("status", "--json")
        if done.returncode:
            return False
        held: dict[str, list[int]] = {}
        for row in json.loads(done.stdout):
            if row["reservation"]:
                held.setdefault(row["reservation"]["id"], []).append(row["gpu_id"])
        return all(held.get(name) == sorted(gpus) for name, gpus in self.granted.live.items())
