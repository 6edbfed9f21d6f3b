"""Redis is wiped while a crowd reserves and releases: every promise is kept, and no GPU is promised twice."""

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from race.test_race import holders, post
from support.daemon import Daemon, gpu, until

pytestmark = pytest.mark.alone
GPUS = 16


@pytest.fixture
def host(folder: Path) -> Iterator[Daemon]:
    """A host with 16 idle GPUs."""
    daemon = Daemon(folder)
    daemon.place(*(gpu(index, memory_used_mb=45) for index in range(GPUS)))
    daemon.start()
    until(lambda: daemon.status().count("AVAILABLE") == GPUS)
    yield daemon
    daemon.stop()


class Promises:
    """Who was promised what, by the answers alone; an end that is under way may be either."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.live: dict[str, list[int]] = {}
        self.twice: list[tuple[str, list[int]]] = []

    def granted(self, name: str, gpus: list[int]) -> None:
        """An answer said so."""
        with self._lock:
            taken = {index for held in self.live.values() for index in held}
            if taken & set(gpus):
                self.twice.append((name, gpus))
            self.live[name] = gpus

    def give_back(self, chance: random.Random) -> str | None:
        """Choose one that is to end; it holds its GPUs until the answer at the latest."""
        with self._lock:
            if not self.live:
                return None
            name = chance.choice(sorted(self.live))
            del self.live[name]
            return name


def test_fifty_callers_and_a_redis_that_is_wiped_again_and_again(host: Daemon) -> None:
    """No allocation comes between a wipe and its repair; what was answered is there in the end."""
    promises, over = Promises(), threading.Event()
    wipes = 0

    def act(turn: int) -> None:
        chance = random.Random(turn)
        for _ in range(12):
            if chance.random() < 0.4:
                name = promises.give_back(chance)
                if name:
                    status, _ = post(host, "/v1/reservations/release", {"ids": [name]})
                    assert status == 200
                continue
            body = {"kind": "manual", "count": chance.randint(1, 3), "wait": False}
            status, answer = post(host, "/v1/reservations", body)
            assert status in {201, 409}, answer
            if status == 201:
                promises.granted(answer["reservation"]["id"], answer["reservation"]["gpus"])

    def wipe() -> None:
        nonlocal wipes
        with host.redis() as redis:
            while not over.wait(random.uniform(0.02, 0.15)):
                redis.flushall()
                wipes += 1
                until(lambda: redis.hexists("canhazgpu:{testhost}:scan", "dataset") or over.is_set(), 30)

    wiper = threading.Thread(target=wipe)
    wiper.start()
    try:
        with ThreadPoolExecutor(50) as crowd:
            list(crowd.map(act, range(50)))
    finally:
        over.set()
        wiper.join()
    assert wipes > 2
    assert promises.twice == []
    until(lambda: sorted(holders(host)) == sorted(promises.live.values()), 5)


def test_sixty_four_reservations_are_back_at_once(folder: Path) -> None:
    """As fast as one round trip: a wipe is repaired by the next scan, whatever was reserved."""
    daemon = Daemon(folder)
    daemon.place(*(gpu(index, memory_used_mb=45) for index in range(64)))
    daemon.start()
    try:
        until(lambda: daemon.status().count("AVAILABLE") == 64)
        for _ in range(64):
            assert post(daemon, "/v1/reservations", {"kind": "manual", "count": 1})[0] == 201
        with daemon.redis() as redis:
            redis.flushall()
            began = time.monotonic()
            until(lambda: redis.hlen("canhazgpu:{testhost}:reservations") == 64, 10)
        assert time.monotonic() - began < 5
    finally:
        daemon.stop()
