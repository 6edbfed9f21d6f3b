"""Episodes in several processes at a time: batches of seeds, each with a bench of its own."""

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from bench.truth.bench import EPISODES_OF_A_REDIS, Bench, Found


def run(  # noqa: PLR0913 - each says one thing about the run
    seed: int,
    steps: int,
    length: int,
    hazards: Sequence[str],
    progress: Callable[[Found], None],
    *,
    jobs: int,
) -> Found:
    """Run episodes of `length` steps, from `seed` on, until there are `steps`; what is found is in order."""
    size = EPISODES_OF_A_REDIS
    while size > 1 and size * length * jobs > steps:
        size //= 2
    starts = range(0, steps, size * length)
    batches = [(seed + done // length, min(size * length, steps - done)) for done in starts]
    found = Found()
    run_batch = partial(_run, length=length, hazards=tuple(hazards))
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        for part in pool.map(run_batch, *zip(*batches, strict=True)):
            found.steps += part.steps
            found.columns.update(part.columns)
            found.failed += part.failed
            progress(found)
    return found


def _run(seed: int, steps: int, *, length: int, hazards: Sequence[str]) -> Found:
    with Bench() as bench:
        return bench.run(seed, steps, length, hazards, lambda _: None)
