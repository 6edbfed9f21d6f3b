"""Containers of several users on one GPU: a violation contains only what belongs to it."""

from typing import Any

import pytest
from support.containers import ALICES, BOBS, in_container, violations
from support.reservations import ALICE, BOB, Lab, used

from canhazgpu.events.envelope import decode
from canhazgpu.events.gpu import ProcessUse
from canhazgpu.events.redis_client.store import Store
from canhazgpu.events.violations import UPDATED

pytestmark = pytest.mark.anyio


def box(number: int, **facts: Any) -> ProcessUse:
    """Return a process of the container with this number."""
    return in_container(pid=number, user=f"root in docker {number:012x}", **facts)


async def test_a_violation_names_nobody_else(store: Store) -> None:
    """The holder's own container adds neither its name nor its hint to a violation of another."""
    lab = Lab(store)
    await lab.reserve()
    for _ in range(2):
        await lab.scan(used(0, box(1, hint=ALICES), box(2, hint=BOBS)))
    (one,) = await violations(store)
    assert (one.key, one.user, one.hint) == ("containers:1002", "root in docker 000000000002", BOBS)
    assert [process.pid for process in one.processes] == [2]


@pytest.mark.parametrize("hint", [None, ALICES])
async def test_what_is_presumed_is_not_counted(store: Store, hint: Any) -> None:
    """Only containers without a right to the GPU are named and counted."""
    lab = Lab(store)
    await lab.reserve()
    await lab.scan(used(0, box(2, hint=hint), box(3, hint=hint)))
    await lab.allocator.disown(ALICE, "once", gpus=None, undo=False)
    for _ in range(2):
        await lab.scan(used(0, *(box(number, hint=hint) for number in range(1, 4))))
    (one,) = await violations(store)
    assert (one.user, one.hint) == ("root in docker 000000000002 and 1 more", hint)
    assert [process.pid for process in one.processes] == [2, 3]


async def test_another_hint_is_another_violation(store: Store) -> None:
    """Containers with different hints are different violations."""
    lab = Lab(store)
    for _ in range(2):
        await lab.scan(used(0, box(1, hint=ALICES)))
    (before,) = await violations(store)
    await lab.scan(used(0, box(2, hint=BOBS)))
    assert await violations(store) == []
    await lab.scan(used(0, box(2, hint=BOBS)))
    (after,) = await violations(store)
    assert before.violation != after.violation
    assert (before.hint, after.hint) == (ALICES, BOBS)


async def test_one_users_containers_are_one_violation(store: Store) -> None:
    """All containers with the same hint are one violation."""
    lab = Lab(store)
    await lab.scan(used(0, box(1, hint=BOBS)))
    await lab.scan(used(0, box(2, hint=BOBS)))
    (before,) = await violations(store)
    await lab.scan(used(0, *(box(number, hint=BOBS) for number in range(3, 9))))
    (after,) = await violations(store)
    assert (before.violation, before.user) == (after.violation, "root in docker 000000000002")
    assert after.user == "root in docker 000000000003 and 5 more"


async def test_a_late_hint_goes_on_with_the_violation(store: Store) -> None:
    """A violation continues when its hint is found later, and ends once."""
    lab = Lab(store)
    for _ in range(2):
        await lab.scan(used(0, box(1)))
    (before,) = await violations(store)
    for _ in range(3):
        seen = await lab.scan(used(0, box(1, hint=BOBS)))
        assert (seen.opened, seen.closed) == (0, 0)
    (after,) = await violations(store)
    assert (after.violation, after.key, after.hint) == (before.violation, before.key, BOBS)
    rows: Any = await store.redis.xrevrange(store.keys.violations, count=1)
    event = decode(rows[0][1])
    assert (event.type, event.data["hint"]["user"]) == (UPDATED, "u1002")
    assert ((await lab.scan()).closed, await violations(store)) == (1, [])


async def test_a_late_hint_delays_nothing(store: Store) -> None:
    """A candidate continues when its hint is found later, but not for newer containers."""
    lab = Lab(store)
    await lab.scan(used(0, box(1, began_ms=1)))
    assert (await lab.scan(used(0, box(1, hint=BOBS, began_ms=1)))).opened == 1
    await lab.scan(used(1, box(2, began_ms=1)))
    assert (await lab.scan(used(1, box(3, hint=BOBS, began_ms=2**42)))).opened == 0


async def test_a_hint_outside_a_container_is_a_users(store: Store) -> None:
    """Processes in user namespaces are separated by their hints too."""
    lab = Lab(store)
    await lab.reserve(uid=BOB)
    facts: dict[str, Any] = {"container": None, "user": "root in a container"}
    for _ in range(2):
        await lab.scan(used(0, box(1, hint=BOBS), in_container(pid=2, hint=ALICES, **facts)))
    (one,) = await violations(store)
    assert (one.key, one.hint, one.user) == ("containers:1001", ALICES, "root in a container")
