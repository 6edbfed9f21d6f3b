"""Cards that are shuffled, lost, returned and replaced, against a model keyed by UUID."""

import asyncio
import uuid
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from support.cards import CardHost

from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.reservations.releases import ReleaseOrder

pytestmark = [pytest.mark.heavy, pytest.mark.slow]
CARDS, USERS = "ABCDE", (1001, 1002, 1003)
cards, users, indices = st.sampled_from(CARDS), st.sampled_from(USERS), st.integers(0, 4)
few = st.lists(indices, min_size=1, max_size=2, unique=True)


class Shuffled(RuleBasedStateMachine):
    """What must hold is kept by UUID here; the product may think in indices as it likes."""

    url: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.store = Store(self.url, f"cards-{uuid.uuid4().hex[:12]}")
        self.host = CardHost(self.store)
        self.listed: list[str] = []
        self.known: set[str] = set()  # Listed or missing; the others were never there or given up.
        self.holder: dict[str, int] = {}
        self.drained: set[str] = set()
        self.uses: dict[str, set[int]] = {}
        self.accused: dict[str, set[int]] = {}
        self.live: dict[str, set[str]] = {}  # Reservation: its cards.
        self.wanted: dict[str, set[str] | None] = {}  # Request: the cards it names.

    def run(self, what: Any) -> Any:
        """Wait for it."""
        return self.runner.run(what)

    def names(self) -> dict[int, str]:
        """What is shown: UUIDs by index."""
        return {index: one.usage.uuid for index, one in self.run(self.host.states()).items()}

    def look(self) -> None:
        """Scan twice, which confirms; then hold Redis against the model."""
        self.host.uses = {name: tuple(sorted(uids)) for name, uids in self.uses.items()}
        for _ in range(2):
            self.run(self.host.scan(*self.listed))
        self.known |= set(self.listed)
        self.learn()
        for name in self.listed:
            own = self.holder.get(name)
            self.accused[name] = {uid for uid in self.uses.get(name, ()) if uid != own}

    def learn(self) -> None:
        """Take in what was granted; it must have been free, there, and what was asked for."""
        names, records = self.names(), self.run(self.host.records())
        assert self.live.keys() <= records.keys(), "a reservation is gone that nobody released"
        for name in records.keys() - self.live.keys():
            own = {names[index] for index in records[name].gpus}
            assert not own & self.holder.keys(), "granted twice"
            assert own <= set(self.listed), "granted what is not there"
            assert not own & self.drained, "granted what is drained"
            wanted = self.wanted.pop(name, None)
            assert wanted in (None, own), "granted another card than was named"
            self.live[name] = own
            self.holder |= dict.fromkeys(own, records[name].uid)
        for request in self.run(self.host.allocator.waiting()):
            assert self.wanted[request.id] in (None, {names[index] for index in request.gpus or ()})

    @initialize(count=st.integers(2, 4))
    def begin(self, count: int) -> None:
        """Some of the cards are there."""
        self.listed = list(CARDS[:count])
        self.look()

    @rule(data=st.data())
    def shuffle(self, data: Any) -> None:
        """The driver numbers the cards anew."""
        self.listed = list(data.draw(st.permutations(self.listed)))
        self.look()

    @rule(card=cards, place=indices)
    def come_or_go(self, card: str, place: int) -> None:
        """A card falls off the bus, or is back or new, in any slot."""
        if card in self.listed:
            self.listed.remove(card)
        else:
            self.listed.insert(place, card)
        self.look()

    @rule(card=cards, other=cards)
    def replace(self, card: str, other: str) -> None:
        """One card is where another was."""
        if card in self.listed and other not in self.listed:
            self.listed[self.listed.index(card)] = other
            self.look()

    @rule()
    def give_up(self) -> None:
        """The missing ones have been missing for too long."""
        patience_ms, self.host.cards.patience_ms = self.host.cards.patience_ms, 0
        for _ in range(2):
            self.run(self.host.scan(*self.listed))
        self.host.cards.patience_ms = patience_ms
        gone = self.known - set(self.listed)
        self.known -= gone
        self.live = {name: own - gone for name, own in self.live.items() if own - gone}
        self.holder = {name: uid for name, uid in self.holder.items() if name not in gone}
        self.accused = {name: uids for name, uids in self.accused.items() if name not in gone}
        waiting = {one.id for one in self.run(self.host.allocator.waiting())}
        granted = set(self.run(self.host.records()))
        self.wanted = {name: wanted for name, wanted in self.wanted.items() if name in waiting | granted}
        self.look()

    @rule()
    def restart(self) -> None:
        """Another service goes on."""
        self.host.restart()
        self.look()

    @rule(uid=users, gpus=few, count=st.none() | st.integers(1, 2), wait=st.booleans())
    def reserve(self, uid: int, gpus: list[int], count: int | None, *, wait: bool) -> None:
        """Somebody asks for cards, by their indices of now or any."""
        names = self.names()
        if count is None and not set(gpus) <= names.keys():
            return
        named = () if count else tuple(gpus)
        reply = self.run(self.host.reserve(uid, *named, count=count, wait=wait))
        if reply.id:
            self.wanted[reply.id] = {names[index] for index in named} or None
        self.learn()
        self.look()

    @rule(uid=users)
    def release(self, uid: int) -> None:
        """Somebody gives all back that is theirs, missing or not."""
        order = ReleaseOrder(uid=uid, by=f"u{uid}", reason="released")
        self.run(self.host.allocator.release(order, uuid.uuid4().hex))
        self.holder = {name: own for name, own in self.holder.items() if own != uid}
        self.live = {name: own for name, own in self.live.items() if own & self.holder.keys()}
        self.look()

    @rule(index=indices)
    def drain(self, index: int) -> None:
        """An administrator takes out what is at an index now, or puts it back."""
        name = self.names().get(index)
        if name is None:
            return
        self.run(self.host.drain(index, None if name in self.drained else "noisy fan"))
        self.drained ^= {name}
        self.learn()
        self.look()

    @rule(card=cards, uid=users)
    def use(self, card: str, uid: int) -> None:
        """Somebody begins to use a card, or stops."""
        self.uses[card] = self.uses.get(card, set()) ^ {uid}
        self.look()

    @invariant()
    def redis_says_the_same_of_each_uuid(self) -> None:
        """Index, holder, drain and violations of each card, and that each is shown once."""
        names = self.names()
        assert [names[index] for index in range(len(self.listed))] == self.listed
        assert sorted(names.values()) == sorted(self.known)
        assert self.run(self.host.holders()) == self.holder
        states = self.run(self.host.by_uuid())
        assert {name for name, one in states.items() if one.drained} == self.drained & self.known
        seen = {name: set(uids) for name, uids in self.run(self.host.violating_uids()).items()}
        assert seen == {name: uids for name, uids in self.accused.items() if uids}

    def teardown(self) -> None:
        """Close the connections."""
        self.run(self.store.close())
        self.runner.close()


def test_every_card_keeps_what_is_its_own(redis_url: str) -> None:
    """Whatever happens to the numbers, each UUID's holder, drain and violations are those of the model."""
    Shuffled.url = redis_url
    run_state_machine_as_test(
        Shuffled,
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
