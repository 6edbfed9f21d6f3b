"""The truth bench detects errors: the product is broken on purpose, one rule at a time."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest
from support.redis import redis_binary

from bench.truth import lab, oracle, people, product
from bench.truth.bench import Bench
from bench.truth.shrink import shrink
from bench.truth.steps import Step, make_up

SEED, LENGTH = 7, 400


@pytest.fixture(autouse=True)
def bench() -> Iterator[Bench]:
    """A bench with its Redis."""
    redis_binary()
    with Bench() as bench:
        yield bench


def columns(bench: Bench, steps: Sequence[Step]) -> Counter[str]:
    """Return the errors that an episode found."""
    return Counter(column for column, _ in bench.episode(steps))


def with_settings(monkeypatch: pytest.MonkeyPatch, section: str, **values: Any) -> None:
    """Run the product with other settings than the oracle expects."""
    changed = msgspec.structs.replace(getattr(product.SETTINGS, section), **values)
    settings = msgspec.structs.replace(product.SETTINGS, **{section: changed})
    monkeypatch.setattr(product, "SETTINGS", settings)


def test_a_product_that_keeps_its_rules_is_never_wrong(bench: Bench) -> None:
    """A correct product has no errors."""
    assert bench.episode(make_up(SEED, LENGTH, ["redis"])) == []


def test_an_episode_is_the_same_each_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same seed gives the same episode and the same words."""
    with_settings(monkeypatch, "violations", confirm=1.0)
    steps = make_up(SEED, LENGTH, [])
    assert steps == make_up(SEED, LENGTH, [])
    assert bench.episode(steps) == bench.episode(steps) != []


@pytest.mark.parametrize(
    ("section", "values", "column"),
    [
        ("violations", {"confirm": 0.0}, oracle.FALSE),
        ("violations", {"exempt_users": ["alice", "bob", "carol", "jon"]}, oracle.MISSED),
        ("violations", {"confirm": 1.0}, oracle.LATE),
        ("memory", {"threshold_mb": 100000}, oracle.GRANTED),
    ],
)
def test_a_broken_rule_is_seen_in_its_column(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, section: str, values: dict[str, Any], column: str
) -> None:
    """Each broken rule is counted in its column."""
    with_settings(monkeypatch, section, **values)
    assert columns(bench, make_up(SEED, LENGTH, []))[column]


def test_an_idle_release_of_what_is_used_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that ignores use loses reservations, which is counted."""

    def blind(name: str, text: str) -> str:
        changed = text.replace(
            "local function track_idleness(rules, record, use, gap)",
            "local function track_idleness(rules, record, _, gap) local use = 'idle'",
        )
        assert name != "observe" or changed != text
        return changed

    with_settings(monkeypatch, "violations", confirm=product.CONFIRM)
    with Bench(blind) as bench:
        assert columns(bench, make_up(SEED, 2 * LENGTH, []))[oracle.IDLE]


@pytest.mark.parametrize(
    ("rule", "broken", "seed", "column"),
    [
        ("local BEGAN_MARGIN_TICKS = 500", "local BEGAN_MARGIN_TICKS = 1e15", 7, oracle.LATE),
        (
            "= known(process.hint), known(process.reservation)",
            "= nil, known(process.reservation)",
            7,
            oracle.LATE,
        ),
        ("= known(process.hint), known(process.reservation)", "= known(process.hint), nil", 10, oracle.LATE),
        ("rules.presume_holder and 'presumed' or 'other'", "'other'", 10, oracle.FALSE),
        ("if has_right(host.rules, gpu, record, process)", "if process.run == record.id", 14, oracle.IDLE),
    ],
)
def test_a_broken_presumption_is_seen(rule: str, broken: str, seed: int, column: str) -> None:
    """Broken rules for presumed containers are counted."""
    changed = []

    def change(name: str, text: str) -> str:
        changed.append(rule in text and name)
        return text.replace(rule, broken)

    with Bench(change) as bench:
        assert columns(bench, make_up(seed, LENGTH, ["containers"]))[column]
    assert "observe" in changed


def test_a_pid_that_is_anothers_within_a_scan_is_no_false_accusation(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pid that is reused within a scan interval causes no false error."""
    monkeypatch.setattr(lab, "PIDS", range(100, 101))
    for moment in range(2, 180, 12):  # Somewhere in it the cards are read before the exit, and /proc after.
        steps = [
            Step(1000, "start", name="p1", person="bob", kind="container", place="c1", number=600),
            Step(700 + moment, "pause"),
            Step(10, "exit", name="p1", split=3),
            Step(0, "start", name="p2", person="jon", kind="plain", place="c1", number=600),
            Step(1, "pause"),
            Step(1, "pause"),
            Step(600, "pause"),
        ]
        assert bench.episode(steps) == [], moment


def test_a_container_that_follows_another_within_a_scan_is_not_late(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If one container follows another within a scan, the second has its own time."""
    monkeypatch.setattr(lab, "PIDS", range(100, 102))
    for moment in range(2, 180, 12):
        steps = [
            Step(1000, "start", name="p1", person="bob", kind="container", place="c1", number=600),
            Step(700 + moment, "pause"),
            Step(10, "start", name="p2", person="jon", kind="container", place="c1", number=600, split=3),
            Step(1, "exit", name="p1"),
            Step(1, "pause"),
            Step(1, "pause"),
            Step(600, "pause"),
        ]
        assert bench.episode(steps) == [], moment


def test_who_has_the_pid_of_a_parent_that_ended_is_no_ancestor(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process with the pid of an ended parent is not taken for an ancestor."""
    monkeypatch.setattr(lab, "PIDS", range(100, 104))
    steps = [
        Step(1000, "start", name="p1", person="carol", kind="plain", place="c1", number=30),
        Step(5, "reserve", name="r1", person="bob", kind="run", place="c2", number=1),
        Step(5, "fork", name="p2", person="p1", place="c2", number=600),
        Step(1, "start", name="p3", person="bob", kind="plain", place="c2", number=30),
        Step(1, "exit", name="p1"),
        Step(50, "use", name="p4", person="bob", kind="plain", place="of:r1", number=600),
        Step(1500, "pause"),
        Step(5, "run-end", name="r1"),
        Step(5, "exit", name="p4"),
        Step(800, "pause"),
    ]
    assert bench.episode(steps) == []


def test_a_wrong_person_is_seen(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A product that attributes use to the wrong user is counted."""
    monkeypatch.setitem(people.NAMES, people.LOCAL["alice"], "bob")
    assert columns(bench, make_up(SEED, LENGTH, []))[oracle.PERSON]


def test_a_wrong_card_is_seen(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A product that confuses two cards is counted."""
    right = product.LabProvider.read

    async def mixed_up(self: product.LabProvider) -> Any:
        first, second, *rest = await right(self)
        replace = msgspec.structs.replace
        return (replace(first, uuid=second.uuid), replace(second, uuid=first.uuid), *rest)

    monkeypatch.setattr(product.LabProvider, "read", mixed_up)
    assert columns(bench, make_up(SEED, LENGTH, []))[oracle.GPU]


@pytest.mark.timeout(900)
def test_a_failure_is_shrunk_to_a_few_steps(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure is reduced to a few steps."""
    with_settings(monkeypatch, "violations", confirm=1.0)

    def fails(steps: Sequence[Step]) -> bool:
        return columns(bench, steps)[oracle.LATE] > 0

    small = shrink(make_up(SEED, LENGTH, []), fails, seconds=600.0)
    assert fails(small)
    assert len(small) <= 5
