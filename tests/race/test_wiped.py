"""Redis is wiped while many callers reserve and release: no reservation is lost, no GPU is granted twice."""

import random
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from race.test_race import holders, post
from support.daemon import Daemon, gpu, until

pytestmark = pytest.mark.alone
GPUS = 16
MOST_REPEATS, UNAVAILABLE = 20, 503


@pytest.fixture
def host(folder: Path) -> Iterator[Daemon]:
    """A host with 16 idle GPUs."""
    daemon = Daemon(folder)
    daemon.place(*(gpu(index, memory_used_mb=45) for index in range(GPUS)))
    daemon.start()
    until(lambda: daemon.status().count("AVAILABLE") == GPUS)
    yield daemon
    daemon.stop()


class Granted:
    """The reservations that the responses granted; one that is being released may be there or not."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.live: dict[str, list[int]] = {}
        self.twice: list[tuple[str, list[int]]] = []

    def add(self, name: str, gpus: list[int]) -> None:
        """Record a response that granted GPUs."""
        with self._lock:
            taken = {index for held in self.live.values() for index in held}
            if taken & set(gpus):
                self.twice.append((name, gpus))
            self.live[name] = gpus

    def choose_release(self, chance: random.Random) -> str | None:
        """Choose a reservation to release; from now on its GPUs may be granted again."""
        with self._lock:
            if not self.live:
                return None
            name = chance.choice(sorted(self.live))
            del self.live[name]
            return name


def insist(host: Daemon, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Repeat a request, which has the same effect once, until Redis was there for it."""
    known = {**body, "operation": uuid.uuid4().hex}
    answers = (post(host, path, known) for _ in range(MOST_REPEATS))
    return next((status, answer) for status, answer in answers if status != UNAVAILABLE)


def test_no_reservation_is_lost_while_redis_is_wiped_under_load(host: Daemon) -> None:
    """No GPU is allocated between a wipe and its repair; in the end, every granted reservation is there."""
    grants, over = Granted(), threading.Event()
    wipes = 0

    def act(turn: int) -> None:
        chance = random.Random(turn)
        turns = 0
        while turns < 12 or wipes <= 2:
            turns += 1
            if chance.random() < 0.4:
                name = grants.choose_release(chance)
                if name:
                    status, _ = insist(host, "/v1/reservations/release", {"ids": [name]})
                    assert status == 200
                continue
            body = {"kind": "manual", "count": chance.randint(1, 3), "wait": False}
            status, answer = insist(host, "/v1/reservations", body)
            assert status in {201, 409}, answer
            if status == 201:
                grants.add(answer["reservation"]["id"], answer["reservation"]["gpus"])

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
    assert grants.twice == []
    until(lambda: sorted(holders(host)) == sorted(grants.live.values()), 20)


def test_sixty_four_reservations_are_restored_by_the_next_scan(folder: Path) -> None:
    """After a wipe, the next scan restores every reservation, however many there are."""
    daemon = Daemon(folder)
    daemon.place(*(gpu(index, memory_used_mb=45) for index in range(64)))
    daemon.start()
    try:
        until(lambda: daemon.status().count("AVAILABLE") == 64)
        for _ in range(64):
            assert post(daemon, "/v1/reservations", {"kind": "manual", "count": 1})[0] == 201
        with daemon.redis() as redis:
            redis.flushall()
            assert until(lambda: redis.hlen("canhazgpu:{testhost}:reservations"), 30) == 64, "not at once"
    finally:
        daemon.stop()
