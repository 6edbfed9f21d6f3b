"""Spells lists of GPUs for people: `0-3,6`, with MIG instances as `0:1`."""

from __future__ import annotations

from canhazgpu.events.spelling.gpu_numbers import card_of, is_instance, place_of, spell_gpu

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def spell_ranges(indices: Iterable[int]) -> str:
    """Return the indices in order, with a dash for three or more in a row: `0-3,6,7`.

    Instances are named one by one, but not those of a GPU in the list: it includes them.
    """
    found = set(indices)
    runs: list[list[int]] = []
    for index in sorted((one for one in found if card_of(one) not in found), key=place_of):
        if runs and index == runs[-1][-1] + 1 and not is_instance(index):
            runs[-1].append(index)
        else:
            runs.append([index])
    return ",".join(
        f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(spell_gpu, run))  # noqa: PLR2004
        for run in runs
    )


def name_gpus(indices: Iterable[int]) -> str:
    """Return `GPU 3` or `GPUs 0-3,6`."""
    found = set(indices)
    return f"GPU{'' if _is_one(found) else 's'} {spell_ranges(found)}"


def states_of_gpus(states: Iterable[tuple[int, str]]) -> str:
    """Return `GPUs 0-2 are reserved by alice, GPU 3 is drained`: those in the same state are one part."""
    found: dict[str, list[int]] = {}
    for index, state in states:
        found.setdefault(state, []).append(index)
    return ", ".join(
        f"{name_gpus(indices)} {'is' if _is_one(indices) else 'are'} {state}"
        for state, indices in found.items()
    )


def _is_one(indices: Iterable[int]) -> bool:
    found = set(indices)
    return sum(card_of(index) not in found for index in found) <= 1
