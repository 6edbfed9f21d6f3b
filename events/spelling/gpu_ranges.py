"""Spells lists of GPUs for people: `0-3,6`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def spell_ranges(indices: Iterable[int]) -> str:
    """Return the indices in order, with a dash for three or more in a row: `0-3,6,7`."""
    runs: list[list[int]] = []
    for index in sorted(set(indices)):
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run)) for run in runs)  # noqa: PLR2004


def name_gpus(indices: Iterable[int]) -> str:
    """Return `GPU 3` or `GPUs 0-3,6`."""
    found = set(indices)
    return f"GPU{'s' if len(found) > 1 else ''} {spell_ranges(found)}"


def states_of_gpus(states: Iterable[tuple[int, str]]) -> str:
    """Return `GPUs 0-2 are reserved by alice, GPU 3 is drained`: those in the same state are one part."""
    found: dict[str, list[int]] = {}
    for index, state in states:
        found.setdefault(state, []).append(index)
    return ", ".join(
        f"{name_gpus(indices)} {'is' if len(indices) == 1 else 'are'} {state}"
        for state, indices in found.items()
    )
