"""The steps of GPUs: scans, who uses them, what fails, and what administrators do with them."""

import uuid

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from model.booking_steps import UIDS, BookingSteps
from model.comparison import PROFILES, usage
from model.facts import Gpu

from canhazgpu.events.spelling.gpu_numbers import card_of, instance_index
from canhazgpu.service.gpus.observation import observe
from canhazgpu.service.storage.policy import AllocationPolicy

INDICES = st.sampled_from((0, 0, 1, 1, 2, 2, 3, 3, 1024, 1025, 2048, 2049))  # Those of instances last.
SOME = st.lists(INDICES, min_size=1, max_size=3, unique=True).map(lambda ids: tuple(sorted(ids)))


class GpuSteps(BookingSteps):
    """The steps of GPUs and MIG instances."""

    @rule()
    def scan(self) -> None:
        """Scan the GPUs."""
        usages = [usage(index, *seen) for index, seen in self.world.items()]
        self.do(observe(self.store, usages, 0.0, 60.0, rules=AllocationPolicy.of(self.settings)))
        self.model.scan(self.world)
        self.clock()
        self.agree("", "")

    @rule(card=st.sampled_from((0, 1)))
    def divide(self, card: int) -> None:
        """An administrator divides a GPU that nobody holds, and the next scan finds its instances."""
        gpu = self.model.gpus[card]
        if gpu.parts or gpu.holder or gpu.drained or not gpu.managed:
            return
        gpu.parts = tuple(instance_index(card, number) for number in range(len(PROFILES)))
        self.world[card] = (self.world[card][0], frozenset())
        for index, profile in zip(gpu.parts, PROFILES, strict=True):
            self.model.gpus[index] = Gpu(index, vendor=gpu.vendor, profile=profile, card=card)
            self.world[index] = ("ok", frozenset())
        self.scan()

    @rule(index=INDICES, uid=UIDS)
    def start_or_stop(self, index: int, uid: int) -> None:
        """A user's process starts or ends on a GPU or an instance; the next scan will see it."""
        (index,) = self.existing((index,))
        index = self.model.gpus[index].parts[0] if self.model.gpus[index].parts else index
        state, users = self.world[index]
        self.world[index] = (state, users ^ {uid})

    @precondition(lambda self: self.model.held)
    @rule(choice=st.integers(0, 9))
    def work(self, choice: int) -> None:
        """A holder uses a reserved GPU."""
        names = sorted(self.model.held)
        held = self.model.held[names[choice % len(names)]]
        index = held.gpus[-1]  # Not a divided card.
        state, users = self.world[index]
        self.world[index] = (state, users | {held.uid})

    @rule(index=INDICES, state=st.sampled_from(("ok", "ok", "error", "unknown")))
    def break_or_mend(self, index: int, state: str) -> None:
        """A GPU fails, becomes unreadable, or recovers."""
        (index,) = self.existing((index,))
        self.world[index] = (state, self.world[index][1])

    @rule(ids=SOME, drained=st.booleans())
    def drain(self, ids: tuple[int, ...], *, drained: bool) -> None:
        """An administrator drains GPUs, or ends the drain."""
        ids = self.existing(ids)
        reason = "broken" if drained else ""
        self.do(self.allocator.drain(0, uuid.uuid4().hex, gpus=ids, reason=reason or None, by="root"))
        self.model.drain(ids, reason)
        self.agree("", "")

    @rule(
        left_out=st.one_of(st.none(), st.none(), INDICES),
        with_related=st.booleans(),
        force=st.booleans(),
    )
    def manage(self, left_out: int | None, *, with_related: bool, force: bool) -> None:
        """An administrator sets which GPUs may be allocated; a card has its instances with it."""
        without: set[int | None] = set()
        if left_out is not None:
            (index,) = self.existing((left_out,))
            related = {card_of(index), *self.model.gpus[index].parts} if with_related else set[int]()
            without = {index, *related}
        ids = tuple(index for index in self.model.gpus if index not in without)
        reply, _ = self.do(self.allocator.manage(0, uuid.uuid4().hex, gpus=ids, force=force, by="root"))
        expected = self.model.manage(ids, force=force)
        self.clock()
        self.agree(reply["code"], expected)
