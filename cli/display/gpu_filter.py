"""Which GPUs to show and in which order: those of a user, those that are free, one's own."""

from __future__ import annotations

from canhazgpu.cli.output import own_name
from canhazgpu.events.spelling.gpu_numbers import place_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from typing import Any

    Gpu = dict[str, Any]

LAST = "\U0010ffff"  # After every text.


def _used_mb(gpu: Gpu) -> int:
    return int(gpu["memory_mb"] if gpu.get("memory_used_mb") is None else gpu["memory_used_mb"])


def _percent(gpu: Gpu) -> int:
    return -1 if gpu.get("utilization_percent") is None else int(gpu["utilization_percent"])


def _degrees(gpu: Gpu) -> int:
    return -1 if gpu.get("temperature_c") is None else int(gpu["temperature_c"])


def _until(gpu: Gpu) -> str:
    held = gpu["reservation"]
    return str(held["until"] or LAST) if held else LAST


# Numbers: the highest first. Names and times: the first first, and those without one last.
ORDERS: dict[str, Callable[[Gpu], Any]] = {
    "gpu": lambda gpu: place_of(gpu["gpu_id"]),
    "memory": lambda gpu: -_used_mb(gpu),
    "util": lambda gpu: -_percent(gpu),
    "temp": lambda gpu: -_degrees(gpu),
    "user": lambda gpu: next(iter(users_of(gpu)), LAST),
    "until": _until,
}


class Choice:
    """What was asked for. `own` are the ids of one's own reservations, None if it does not matter."""

    def __init__(
        self,
        *,
        user: str | None = None,
        free: bool = False,
        own: Collection[str] | None = None,
        order: str = "gpu",
    ) -> None:
        """Keep it. A dataclass would import `inspect`, which takes as long as the rest of the table."""
        self.user, self.free, self.own, self.order = user, free, own, order

    def of(self, gpus: Sequence[Gpu]) -> list[Gpu]:
        """Return the GPUs that were asked for, in the order that was asked for."""
        return sorted((gpu for gpu in gpus if self._fits(gpu)), key=ORDERS[self.order])

    def _fits(self, gpu: Gpu) -> bool:
        if self.free and gpu["status"] != "AVAILABLE":
            return False
        if self.user is not None and self.user not in users_of(gpu):
            return False
        held = gpu["reservation"]
        mine = bool(held) and self.own is not None and held["id"] in self.own
        return self.own is None or mine or own_name() in users_without_right(gpu)


def users_without_right(gpu: Gpu) -> list[str]:
    """Return the users of a GPU who have not reserved it."""
    found = gpu["users"] if gpu["reservation"] is None else [one["user"] for one in gpu["others"]]
    return list(dict.fromkeys(found))


def users_of(gpu: Gpu) -> list[str]:
    """Return everybody who has or uses a GPU, its holder first."""
    holder = [gpu["reservation"]["user"]] if gpu["reservation"] else []
    return [*holder, *users_without_right(gpu)]
