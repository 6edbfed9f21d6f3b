"""Spells how many GPUs there are, or are wanted: `8 GPUs`, or `1 GPU and 2 MIG instances`."""

from __future__ import annotations

from canhazgpu.events.spelling.gpu_numbers import card_of, is_instance
from canhazgpu.events.spelling.gpu_ranges import name_gpus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any


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


def spell_request(request: Mapping[str, Any]) -> str:
    """Return what a request of the queue waits for, as briefly as in commands: `2`, `GPU 3`, `1g.10gb:2`."""
    if request["gpus"]:
        return name_gpus(request["gpus"])
    count, profile = request["count"], request.get("profile")
    return f"{profile}{'' if count == 1 else f':{count}'}" if profile else str(count)


def describe_request(request: Mapping[str, Any]) -> str:
    """Return the same for a sentence: `2 GPUs`, `GPU 3`, `2 MIG instances 1g.10gb`."""
    if request["gpus"]:
        return name_gpus(request["gpus"])
    profile = request.get("profile")
    return (
        f"{_counted(request['count'], 'MIG instance')} {profile}"
        if profile
        else spell_counts(request["count"], 0)
    )


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
