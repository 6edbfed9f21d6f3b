"""Makes a failing list of steps small: what can be left out without the failure going away is left out."""

import time
from collections.abc import Callable, Sequence

from bench.truth.steps import Step


def shrink(steps: Sequence[Step], fails: Callable[[Sequence[Step]], bool], seconds: float) -> list[Step]:
    """Return a part of `steps` that still fails; none of its steps can be left out alone, if time allows.

    Parts of half the length are left out first, then smaller and smaller ones (delta debugging).
    """
    deadline = time.monotonic() + seconds
    kept = list(steps)
    size = max(1, len(kept) // 2)
    while time.monotonic() < deadline:
        before = len(kept)
        position = 0
        while position < len(kept) and time.monotonic() < deadline:
            shorter = kept[:position] + kept[position + size :]
            if shorter and fails(shorter):
                kept = shorter
            else:
                position += size
        if size == 1 and len(kept) == before:
            break
        size = max(1, size // 2)
    return kept
