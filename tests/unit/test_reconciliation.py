"""What Redis has lost of the acknowledged state, decided from the journal, Redis and the ledger."""

from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canhazgpu.events.envelope import Event
from canhazgpu.events.reservations import Record, Waiting
from canhazgpu.service.recovery.reconciliation_plan import (
    RedisState,
    fully_released_id,
    plan,
    translate_indices,
)
from canhazgpu.service.storage.journal import Card, State

NOW = 1_700_000_000_000


def record(name: str, **facts: Any) -> Record:
    """Return a manual reservation with an hour left."""
    values = {"kind": "manual", "user": "bob", "uid": 1001, "gpus": (0,), "started_ms": NOW - 1000}
    return Record(id=name, **{**values, "expires_ms": NOW + 3600_000, **facts})


def state(*records: Record, **facts: Any) -> State:
    """Return an acknowledged state."""
    return State(**{"dataset": "d", "sequence": 7, "records": {one.id: one for one in records}, **facts})


def found(*records: Record, **facts: Any) -> RedisState:
    """Return the data in Redis."""
    values: dict[str, Any] = {"dataset": "d", "sequence": 7, "ledger": "0-0", "requests": {}, "cards": {}}
    return RedisState(now_ms=NOW, records={one.id: one for one in records}, **{**values, **facts})


def released(data: dict[str, Any]) -> Event:
    """Return an entry of the ledger about the reservation r1."""
    kind = "canhazgpu.reservation.released"
    return Event(id="1-1", source="//a", type=kind, subject="reservation/r1", time="t", data=data)


def alive(_: Record) -> bool:
    """Say that every process is alive."""
    return True


def dead(_: Record) -> bool:
    """Say that no process is alive."""
    return False


def test_nothing_is_lost_where_both_agree() -> None:
    """Nothing is lost if both agree, or if Redis has additional reservations."""
    a, b = record("a"), record("b")
    wanted = plan(state(a), found(a, b, sequence=9), (), alive)
    assert (wanted.lost, wanted.restore, wanted.drop, wanted.requests) == (False, (), (), ())


@pytest.mark.parametrize(
    ("kept", "lives", "restored"),
    [
        (record("a"), False, True),
        (record("a", expires_ms=NOW), True, False),
        (record("a", kind="run", expires_ms=None, pid=1, start=1), True, True),
        (record("a", kind="run", expires_ms=None, pid=1, start=1), False, False),
        (record("a", kind="run", expires_ms=None, ended_ms=NOW), False, True),
    ],
)
def test_what_is_missing_is_restored_while_it_lasts(kept: Record, lives: bool, restored: bool) -> None:  # noqa: FBT001
    """A missing reservation is restored if it would still last: manual, run, or lingering."""
    wanted = plan(state(kept), found(dataset=None, sequence=0), (), alive if lives else dead)
    assert (wanted.restore, wanted.ended_meanwhile) == (((kept,), ()) if restored else ((), ("a",)))
    assert wanted.lost


def test_what_the_ledger_has_is_over() -> None:
    """A reservation that has ended according to the ledger is not restored."""
    assert not plan(state(record("a")), found(), {"a"}, alive).lost


def test_what_was_over_does_not_come_back() -> None:
    """A reservation that had ended is removed if old data has it."""
    assert plan(state(ended=("a",)), found(record("a"), sequence=3), (), alive).drop == ("a",)


def test_the_later_of_two_versions_counts() -> None:
    """The newer of two revisions counts; a reservation that only Redis has is kept."""
    later, earlier = record("a", rev=4, expires_ms=NOW + 9), record("a", rev=3)
    assert plan(state(later), found(earlier), (), alive).restore == (later,)
    assert not plan(state(earlier), found(later), (), alive).lost


@pytest.mark.parametrize("facts", [{"gpus": (3,)}, {"uid": 7}, {"expires_ms": NOW + 1}, {"pid": 9}])
def test_of_two_contents_with_one_revision_the_journals_counts(facts: dict[str, Any]) -> None:
    """If content differs at the same revision, the journal counts, except for heartbeats."""
    kept = record("a", gpus=(1,), rev=4)
    changed = record("a", **{"gpus": (1,), "rev": 4, **facts})
    assert plan(state(kept), found(changed), (), alive).restore == (kept,)
    assert not plan(state(kept), found(record("a", gpus=(1,), rev=4, heartbeat_ms=NOW)), (), alive).lost


def test_requests_are_put_back_only_after_a_loss() -> None:
    """Requests are restored only after a loss; otherwise they have left by themselves."""
    waits = Waiting(id="w", kind="manual", user="bob", uid=1, place=1, queued_ms=NOW, count=1)
    kept = state(record("a"), requests={"w": waits})
    assert plan(kept, found(record("a")), (), alive).requests == ()
    assert plan(kept, found(dataset=None, sequence=0), (), alive).requests == (waits,)


@pytest.mark.parametrize(
    ("fields", "over"),
    [
        (released({}).to_fields(), "r1"),
        (released({"kept": [1]}).to_fields(), None),
        ({"data": b"{}"}, None),
        ({**released({}).to_fields(), "data": b"\xff"}, None),
    ],
)
def test_only_a_whole_release_ends_a_reservation(fields: dict[str, bytes], over: str | None) -> None:
    """A foreign entry in the ledger ends no reservation and stops nothing."""
    assert fully_released_id({name.encode(): value for name, value in fields.items()}) == over


NAMES = st.sampled_from("abcde")


@given(st.sets(NAMES), st.sets(NAMES), st.sets(NAMES), st.sets(NAMES))
def test_every_promise_is_kept_or_over(
    promised: set[str], there: set[str], ended: set[str], ledger: set[str]
) -> None:
    """Afterwards Redis has exactly the acknowledged reservations that last, and its own additional ones."""
    kept = state(*map(record, sorted(promised - ended)), ended=tuple(sorted(ended)))
    wanted = plan(kept, found(*map(record, sorted(there))), ledger, alive)
    after = (there - set(wanted.drop)) | {one.id for one in wanted.restore}
    assert after == ((promised - ended) - (ledger - there)) | (there - ended)


def cards(order: str) -> dict[str, Card]:
    """Return the cards in this order of their names; `-` is a card that has no UUID."""
    return {str(index): Card(uuid=name.strip("-")) for index, name in enumerate(order)}


@pytest.mark.parametrize("order", ["".join(one) for one in permutations("ABC")])
def test_the_journal_takes_the_places_that_its_cards_have_in_redis(order: str) -> None:
    """What is held of a card, waited for or said of it stays with the card in every renumbering."""
    facts: dict[str, Any] = {"place": 1, "queued_ms": NOW, "kind": "run"}
    request = Waiting(id="w", user="bob", uid=1001, gpus=(0, 2), **facts)
    kept = state(record("a"), record("b", gpus=(1, 2)), requests={"w": request}, cards=cards("ABC"))
    there = translate_indices(kept, cards(order))
    a, b, c = map(order.index, "ABC")
    assert there.records["a"].gpus == (a,)
    assert there.records["b"].gpus == tuple(sorted((b, c)))
    assert there.requests["w"].gpus == tuple(sorted((a, c)))
    assert there.cards == cards(order)


@pytest.mark.parametrize(
    ("order", "index"), [("", 0), ("A", 0), ("-", 0), ("B", 1), ("BC", 2), ("AA", 0), ("CBA", 2)]
)
def test_a_card_that_redis_does_not_know_gets_a_place_of_its_own(order: str, index: int) -> None:
    """Nobody gets the card that is in its place now."""
    there = translate_indices(state(record("a"), cards=cards("A")), cards(order))
    assert there.records["a"].gpus == (index,)
    assert there.cards == {str(index): Card(uuid="A")}
