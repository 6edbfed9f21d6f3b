"""Many episodes one after the other: a fresh lab each, a Redis for some of them, and what was found."""

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import msgspec
import structlog

from bench.truth.actions import Actions
from bench.truth.clock import Change
from bench.truth.lab_redis import LabRedis
from bench.truth.people import user_database
from bench.truth.product import on_the_clock
from bench.truth.steps import Step, make_up

MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of its own is made there
EPISODES_OF_A_REDIS = 20  # Then its file is long enough.


class Failed(msgspec.Struct, frozen=True):
    """An episode in which the product was wrong: where, and the steps that lead there."""

    seed: int
    failures: list[tuple[str, str]]
    steps: list[Step]


class Found(msgspec.Struct):
    """What all episodes came to."""

    steps: int = 0
    columns: Counter[str] = msgspec.field(default_factory=Counter)
    failed: list[Failed] = msgspec.field(default_factory=list)


class Bench:
    """Where episodes are run: a folder in memory and a Redis. A context manager."""

    def __init__(self, change: Change | None = None) -> None:
        """`change` may alter the product's scripts, to see whether that is noticed."""
        self._change = change
        self._episodes = 0
        self._redis: LabRedis | None = None

    def __enter__(self) -> Self:
        """Make the folder, and let the lab's people be the host's."""
        self._open = ExitStack()
        where = MEMORY if MEMORY.is_dir() else None
        self._folder = Path(self._open.enter_context(tempfile.TemporaryDirectory(prefix="truth-", dir=where)))
        self._folder.chmod(0o755)
        self._open.enter_context(user_database())
        structlog.configure(processors=[_drop])
        self._open.callback(structlog.reset_defaults)
        self._open.callback(on_the_clock, time)
        self._open.callback(self._end_redis)
        return self

    def __exit__(self, *error: object) -> None:
        """Let go of everything."""
        self._open.close()

    def episode(self, steps: Sequence[Step]) -> list[tuple[str, str]]:
        """Run one episode; return what was wrong, by column."""
        return asyncio.run(self._run(steps))

    def run(
        self, seed: int, steps: int, length: int, hazards: Sequence[str], progress: Callable[[Found], None]
    ) -> Found:
        """Run episodes of `length` steps, from `seed` on, until there are `steps`."""
        found = Found()
        while found.steps < steps:
            made = make_up(seed, min(length, steps - found.steps), hazards)
            failures = self.episode(made)
            found.steps += len(made)
            found.columns.update(column for column, _ in failures)
            if failures:
                found.failed.append(Failed(seed, failures, made))
            seed += 1
            progress(found)
        return found

    async def _run(self, steps: Sequence[Step]) -> list[tuple[str, str]]:
        if self._redis is None or self._episodes % EPISODES_OF_A_REDIS == 0:
            self._end_redis()
            self._redis = LabRedis(self._folder / f"redis-{self._episodes}")
        self._episodes += 1
        episode = Actions(self._folder / "lab", self._redis, self._change)
        try:
            return await episode.run(steps)
        finally:
            await episode.close()

    def _end_redis(self) -> None:
        if self._redis:
            self._redis.kill()


def _drop(logger: object, name: str, event: Any) -> Any:
    del logger, name, event
    raise structlog.DropEvent
