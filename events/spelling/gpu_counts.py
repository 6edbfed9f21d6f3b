"""Spells how many GPUs there are: `8 GPUs`, or `1 GPU and 2 MIG instances`."""

from __future__ import annotations

from canhazgpu.events.spelling.gpu_numbers import card_of, is_instance

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection


def spell_count(indices: Collection[int]) -> str:
    """Return how many GPUs and MIG instances these are. A GPU does not count next to its instances."""
    cards = {card_of(index) for index in indices}
    instances = sum(map(is_instance, indices))
    return spell_counts(sum(index not in cards for index in indices) - instances, instances)


def spell_counts(whole: int, instances: int) -> str:
    """Return how many GPUs that are not divided, and how many MIG instances."""
    parts = [_counted(whole, "GPU")] if whole or not instances else []
    parts += [_counted(instances, "MIG instance")] if instances else []
    return " and ".join(parts)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
