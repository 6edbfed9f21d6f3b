"""The truth bench notices where the product takes one person, container or card for another."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from support.redis import redis_binary

from bench.truth import oracle
from bench.truth.bench import Bench
from bench.truth.steps import make_up
from canhazgpu.events.gpu import GpuReading, ProcessUse
from canhazgpu.service.gpus.renumbering import Renumbering
from canhazgpu.service.identity import attribution
from canhazgpu.service.identity.attribution import Attributor
from canhazgpu.service.identity.process_facts import Facts

LENGTH = 1000


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench with its Redis."""
    redis_binary()
    with Bench() as bench:
        yield bench


def columns(bench: Bench, hazards: list[str], *seeds: int) -> Counter[str]:
    """Return what some episodes found wrong."""
    return Counter(column for seed in seeds for column, _ in bench.episode(make_up(seed, LENGTH, hazards)))


def test_two_people_of_one_login_that_are_taken_for_one_are_seen(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `sudo -u bob`, what bob does on alice's GPU is not hers."""
    assert not columns(bench, ["logins"], 4)
    right = vars(Attributor)["_use"]

    def one_login(self: Attributor, pid: int, facts: Facts) -> ProcessUse:
        use: ProcessUse = right(self, pid, facts)
        return msgspec.structs.replace(use, login_uid=facts.login_uid)

    monkeypatch.setattr(Attributor, "_use", one_login)
    assert columns(bench, ["logins"], 4)[oracle.MISSED]


def test_a_child_of_a_run_that_is_taken_for_a_trespasser_is_seen(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run's process of another uid is there by right."""
    assert not columns(bench, ["sudo", "children"], 6)

    def nobodys(*args: Any) -> None:
        del args

    monkeypatch.setattr(attribution, "run_of", nobodys)
    assert columns(bench, ["sudo", "children"], 6)[oracle.FALSE]


def test_a_child_of_a_run_that_a_restart_forgets_is_seen(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a scan saw as the run's stays the run's, also for the next daemon."""

    def forget(self: Attributor, processes: Any) -> None:
        del self, processes

    monkeypatch.setattr(Attributor, "remember", forget)
    assert columns(bench, ["sudo", "children"], 9)[oracle.FALSE]


@pytest.mark.parametrize(
    ("rule", "broken", "column"),
    [
        (
            "if gpu.disowned and cjson.decode(gpu.disowned)[key_of(process)] then",
            "if false then",
            oracle.MISSED,
        ),
        ("redis.call('HDEL', gpu.key, 'disowned')", "", oracle.FALSE),
    ],
)
def test_a_holders_word_that_counts_for_nothing_is_seen(rule: str, broken: str, column: str) -> None:
    """What a holder disowns is no longer presumed to be theirs, until they take that back."""
    changed = []

    def change(name: str, text: str) -> str:
        changed.append(rule in text and name)
        return text.replace(rule, broken)

    with Bench(change) as bench:
        assert columns(bench, ["containers", "disowning"], 3)[column]
    assert any(changed)


def test_a_uuid_that_is_taken_for_the_other_cards_is_seen(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the driver says one UUID for two cards, each stays what it was."""
    assert not columns(bench, ["twins"], 4)

    def as_said(self: Renumbering, reading: GpuReading) -> GpuReading:
        del self
        return reading

    monkeypatch.setattr(Renumbering, "_named", as_said)
    assert columns(bench, ["twins"], 4)[oracle.GPU]
