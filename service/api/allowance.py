"""The limits of one user: those of this host, and what the fleet's limit leaves here."""

from collections.abc import Callable, Mapping
from heapq import nlargest
from typing import Any

import msgspec

from canhazgpu.config.settings import Settings
from canhazgpu.events.durations import parse_duration
from canhazgpu.events.sanitize import printable
from canhazgpu.service.api.requests import MOST_GPUS

NAMED = 5  # Hosts that a refusal names; the others are counted together,
OTHERS = "other hosts"  # under a name that no host can have.


class FleetShare(msgspec.Struct, frozen=True):
    """A limit that counts all hosts: how many GPUs, and how many the user holds on other hosts."""

    limit: int
    elsewhere: dict[str, int]


class Allowance(msgspec.Struct, frozen=True):
    """The limits of one user. None means no limit; `longest` is in seconds.

    `gpus`: how many GPUs they can hold on this host now. `most`: how many if they held none on other hosts.
    `fleet`: the limit of the fleet, if `gpus` follows from it.
    """

    gpus: int | None
    longest: float | None
    most: int | None
    fleet: FleetShare | None = None

    def of_request(self) -> dict[str, Any]:
        """Return the fields of a request for GPUs."""
        if self.fleet is None:
            return {"limit": self.gpus, "most": None, "fleet_limit": None, "elsewhere": None}
        return {
            "limit": self.gpus,
            "most": self.most,
            "fleet_limit": self.fleet.limit,
            "elsewhere": self.fleet.elsewhere or None,
        }


class Allowances:
    """The limits of all users. `elsewhere` returns what a user holds on other hosts, by host."""

    def __init__(self, settings: Settings) -> None:
        """Count this host only, until `elsewhere` is set."""
        self._limits = settings.limits
        self.elsewhere: Callable[[str], Mapping[str, int]] = lambda _: {}

    @property
    def count_other_hosts(self) -> bool:
        """Whether any limit depends on other hosts."""
        limits = self._limits
        return bool(limits.fleet.max_gpus_per_user) or any(
            own.max_gpus_in_fleet for own in limits.users.values()
        )

    def of(self, user: str) -> Allowance:
        """Return the limits of `user`."""
        limits, own = self._limits, self._limits.users.get(user)
        here, longest = limits.max_gpus_per_user, limits.max_duration
        fleet = limits.fleet.max_gpus_per_user
        if own is not None:
            here = here if own.max_gpus is None else own.max_gpus
            fleet = fleet if own.max_gpus_in_fleet is None else own.max_gpus_in_fleet
            longest = longest if own.max_duration is None else parse_duration(own.max_duration)
        bound = here if here and here < MOST_GPUS else None
        if not fleet:
            return Allowance(bound, longest or None, bound)
        elsewhere = self.elsewhere(user)
        left = max(0, fleet - sum(elsewhere.values()))
        if bound is not None and bound <= left:
            return Allowance(bound, longest or None, bound)
        most = fleet if bound is None else min(bound, fleet)
        return Allowance(left, longest or None, most, FleetShare(fleet, _largest(elsewhere)))


def _largest(elsewhere: Mapping[str, int]) -> dict[str, int]:
    """Return the hosts with the most GPUs, and the sum of the others."""
    first = nlargest(NAMED, sorted(elsewhere.items()), key=lambda one: one[1])
    rest = sum(elsewhere.values()) - sum(count for _, count in first)
    return dict(first) | ({OTHERS: rest} if rest else {})


def spell_places(here: int, elsewhere: Mapping[str, int]) -> str:
    """Return `1 on this host, 3 on gpu2, 1 on gpu5`."""
    shown = [("this host", here)] if here or not elsewhere else []
    shown += list(elsewhere.items())[: NAMED + 1]
    return ", ".join(f"{count} on {printable(place, 60)}" for place, count in shown)
