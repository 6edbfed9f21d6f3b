"""A crowd that reserves and releases while Redis is in trouble, and checks that promises are kept."""

import json
import random
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from race.test_race import post
from race.test_wiped import Promises
from support.daemon import Daemon, until

CALLERS = 8
PATIENCE = 90.0  # Seconds until a request must have been answered; a failover takes most of them.


class Crowd:
    """Callers over the socket; who hears that Redis does not answer asks again."""

    def __init__(self, host: Daemon) -> None:
        """Prepare them."""
        self.promises = Promises()
        self.grants = self.refused = 0
        self._host = host
        self._over = threading.Event()
        self._wrong: list[str] = []

    @contextmanager
    def at_work(self) -> Iterator["Crowd"]:
        """Let them work; in the end everything that was promised is there, and nothing twice."""
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
        assert self.promises.twice == []
        until(self._is_kept, 20, str(self.promises.live))

    def more(self, number: int, seconds: float = PATIENCE) -> None:
        """Return when so many were granted from now on."""
        goal = self.grants + number
        until(lambda: self.grants >= goal or self._wrong, seconds, str(self._wrong))
        assert self._wrong == []

    def _act(self, turn: int) -> None:
        chance = random.Random(turn)
        while not self._over.wait(chance.uniform(0, 0.05)):
            if chance.random() < 0.5:
                name = self.promises.give_back(chance)
                if name:
                    self._ask("/release", {"ids": [name]})
                continue
            answer = self._ask("", {"kind": "manual", "count": chance.randint(1, 2), "wait": False})
            if "reservation" in answer:
                self.promises.granted(answer["reservation"]["id"], answer["reservation"]["gpus"])
                self.grants += 1

    def _ask(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        """Ask under one name until there is an answer, as the commands do."""
        body, deadline = {**body, "operation": uuid.uuid4().hex}, time.monotonic() + PATIENCE
        while True:
            status, answer = post(self._host, f"/v1/reservations{what}", body)
            if status in {200, 201, 409}:
                return answer
            self.refused += 1
            if status != 503 or time.monotonic() > deadline:
                self._wrong.append(f"{status} {answer}")
                return {}
            time.sleep(0.05)

    def _is_kept(self) -> bool:
        done = self._host.run("status", "--json")
        if done.returncode:
            return False
        held: dict[str, list[int]] = {}
        for row in json.loads(done.stdout):
            if row["reservation"]:
                held.setdefault(row["reservation"]["id"], []).append(row["gpu_id"])
        return all(held.get(name) == sorted(gpus) for name, gpus in self.promises.live.items())
