"""The scripts on a real Redis against the reference, step by step, with the invariants after each."""

import uuid
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from model.host import CHOSEN, LONG_MS, STEPS, UIDS, Host, play
from model.reference import Request

from canhazgpu.service.allocator import Allocator, Ask, ReleaseOrder

SHORT = 1  # Milliseconds.
SOME = st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True).map(lambda ids: tuple(sorted(ids)))
LIMITS = st.sampled_from((None, None, None, 1, 2, 3))


class Machine(Host):
    """One host of four GPUs and three users."""

    @rule(
        uid=UIDS,
        kind=st.sampled_from(("run", "manual")),
        count=st.integers(1, 5),
        ids=st.one_of(st.none(), SOME),
        wait=st.booleans(),
        limit=LIMITS,
        short=st.booleans(),
    )
    def reserve(self, ids: tuple[int, ...] | None, **wanted: Any) -> None:
        """Somebody asks for GPUs."""
        request = Request(ids=ids, **wanted)
        lasts = SHORT if request.short else LONG_MS
        request.short = request.short and request.kind == "manual"
        ask = Ask(
            kind=request.kind,
            user=f"u{request.uid}",
            uid=request.uid,
            count=None if ids else request.count,
            gpus=ids,
            limit=request.limit,
            wait=request.wait,
            duration_ms=lasts if request.kind == "manual" else None,
        )
        operation = uuid.uuid4().hex
        reply = self.do(self.allocator.reserve(ask, operation))
        request.id = reply.id
        self.agree(reply.code, self.model.reserve(request))
        self.again = lambda: self.allocator.reserve(ask, operation)
        self.answer = reply if reply.code not in ("granted", "queued") else None

    @rule(uid=UIDS, ids=st.one_of(st.none(), SOME), everything=st.booleans(), admin=st.booleans())
    def release(self, uid: int, ids: tuple[int, ...] | None, *, everything: bool, admin: bool) -> None:
        """Somebody gives GPUs back, an administrator takes them."""
        order = ReleaseOrder(
            uid=uid, by="x", reason="released", gpus=ids, all=everything, admin=admin and ids is not None
        )
        operation = uuid.uuid4().hex
        reply = self.do(self.allocator.release(order, operation))
        expected = self.model.release(uid, ids, everything=everything, admin=order.admin)
        self.clock()
        self.agree(reply[0], expected)
        self.again, self.answer = lambda: self.allocator.release(order, operation), reply

    @rule(uid=UIDS, ids=st.one_of(st.none(), SOME))
    def extend(self, uid: int, ids: tuple[int, ...] | None) -> None:
        """Somebody wants more time."""
        operation = uuid.uuid4().hex

        def ask() -> Any:
            return self.allocator.extend(uid, operation, gpus=ids, add_ms=LONG_MS, most_ms=None)

        reply = self.do(ask())
        self.agree(reply["code"], self.model.extend(uid, ids))
        self.again, self.answer = ask, reply

    @precondition(lambda self: self.again is not None)
    @rule()
    def repeat(self) -> None:
        """The answer was lost, the same is asked again: nothing happens, and the answer is the same."""
        assert self.again
        if self.answer is not None:
            assert self.do(self.again()) == self.answer
            self.agree("", "")

    @precondition(lambda self: self.model.queue)
    @rule(choice=st.integers(0, 9))
    def leave(self, choice: int) -> None:
        """Somebody waits no more."""
        name = self.model.queue[choice % len(self.model.queue)].id
        self.do(self.allocator.leave([name], "cancelled"))
        self.model.leave(name)
        self.agree("", "")

    @rule(ids=SOME, drained=st.booleans())
    def drain(self, ids: tuple[int, ...], *, drained: bool) -> None:
        """An administrator takes GPUs out of allocation, or gives them back."""
        reason = "broken" if drained else None
        self.do(self.allocator.drain(0, uuid.uuid4().hex, gpus=ids, reason=reason, by="root"))
        self.model.drain(ids, drained=drained)
        self.agree("", "")

    @rule(left_out=st.one_of(st.none(), st.none(), st.integers(0, 3)), force=st.booleans())
    def manage(self, left_out: int | None, *, force: bool) -> None:
        """An administrator says which GPUs are handed out."""
        ids = tuple(index for index in range(4) if index != left_out)
        reply = self.do(self.allocator.manage(0, uuid.uuid4().hex, gpus=ids, force=force, by="root"))
        expected = self.model.manage(ids, force=force)
        self.clock()
        self.agree(reply["code"], expected)

    @rule()
    def restart(self) -> None:
        """The service begins anew: nobody who waits is heard."""
        self.allocator = Allocator(CHOSEN, self.store)
        self.again = None
        self.do(self.allocator.adopt())
        for request in self.model.queue:
            request.attached = False
        self.agree("", "")

    @precondition(lambda self: self.model.queue)
    @rule(choice=st.integers(0, 9))
    def come_back(self, choice: int) -> None:
        """A command that waits finds the service again."""
        request = self.model.queue[choice % len(self.model.queue)]
        ask = Ask(
            kind=request.kind,
            user=f"u{request.uid}",
            uid=request.uid,
            count=1,
            limit=request.limit,
            wait=True,
            id=request.id,
        )
        reply = self.do(self.allocator.reserve(ask, uuid.uuid4().hex))
        self.agree(reply.code, self.model.back(request))

    @rule()
    def forget_scripts(self) -> None:
        """Redis forgets them."""
        self.do(self.store.redis.script_flush())


@pytest.mark.slow
@pytest.mark.timeout(900 if STEPS <= 20000 else 36000)
def test_the_scripts_do_what_the_reference_does(redis_url: str) -> None:
    """No difference in all these steps, made up anew by Hypothesis on every run."""
    play(Machine, redis_url, STEPS)
