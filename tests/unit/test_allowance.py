"""The limits of one user, on this host and in the fleet."""

from typing import Any

import pytest

from canhazgpu.config.settings import Settings, UserLimit
from canhazgpu.service.api.allowance import NAMED, OTHERS, Allowances, FleetShare, spell_places


def limits(here: int, fleet: int, elsewhere: dict[str, int], **users: UserLimit) -> Allowances:
    """Return limits of this host and of the fleet, with what everybody holds on other hosts."""
    settings = Settings()
    limit: Any = settings.limits
    changed = type(limit)(
        max_gpus_per_user=here, users=users, fleet=type(limit.fleet)(max_gpus_per_user=fleet)
    )
    found = Allowances(Settings(limits=changed))
    found.elsewhere = lambda _: elsewhere
    return found


@pytest.mark.parametrize(
    ("here", "fleet", "elsewhere", "expected"),
    [
        (0, 0, {"b": 9}, (None, None, False)),
        (2, 0, {"b": 9}, (2, 2, False)),
        (0, 4, {}, (4, 4, True)),
        (0, 4, {"b": 3}, (1, 4, True)),
        (0, 4, {"b": 3, "c": 200}, (0, 4, True)),
        (2, 4, {"b": 1}, (2, 2, False)),
        (2, 4, {"b": 3}, (1, 2, True)),
        (6, 4, {}, (4, 4, True)),
    ],
)
def test_the_smaller_limit_holds(
    here: int, fleet: int, elsewhere: dict[str, int], expected: tuple[int | None, int | None, bool]
) -> None:
    """What a user holds elsewhere counts towards the limit of the fleet only."""
    found = limits(here, fleet, elsewhere).of("ada")
    assert (found.gpus, found.most, found.fleet is not None) == expected
    assert found.fleet in (None, FleetShare(fleet, elsewhere))


def test_exceptions_for_users() -> None:
    """A user's own limit of the fleet replaces the general one; 0 is none."""
    found = limits(0, 4, {"b": 3}, ada=UserLimit(max_gpus_in_fleet=0), bob=UserLimit(max_gpus_in_fleet=9))
    assert (found.of("ada").gpus, found.of("bob").gpus, found.of("eve").gpus) == (None, 6, 1)
    assert found.count_other_hosts
    assert not limits(4, 0, {}).count_other_hosts
    assert limits(4, 0, {}, ada=UserLimit(max_gpus_in_fleet=2)).count_other_hosts


def test_few_hosts_are_named() -> None:
    """A refusal names the hosts with the most GPUs, and counts the others."""
    share = limits(0, 4, {f"gpu{number:02}": number for number in range(1, 40)}).of("ada").fleet
    assert share
    assert list(share.elsewhere) == ["gpu39", "gpu38", "gpu37", "gpu36", "gpu35", OTHERS]
    assert len(share.elsewhere) == NAMED + 1
    assert sum(share.elsewhere.values()) == sum(range(40))
    assert spell_places(1, {"gpu\x1b2": 3}) == r"1 on this host, 3 on gpu\x1b2"
    assert spell_places(0, {"gpu2": 3, "gpu5": 1}) == "3 on gpu2, 1 on gpu5"
    assert spell_places(4, {}) == "4 on this host"
