"""The scripts on a real Redis against the reference, step by step, with the invariants after each."""

import asyncio
import os
import time
import uuid
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from model.comparison import compare, usage
from model.reference import Gpu, Reference, Request
from model.replay import Replay

from canhazgpu.config.settings import Gpus, Settings
from canhazgpu.events.envelope import decode
from canhazgpu.events.store import Store
from canhazgpu.service.allocator import Allocator, Ask, ReleaseOrder
from canhazgpu.service.observations import observe
from canhazgpu.service.rules import Rules

STEPS = int(os.environ.get("MODEL_STEPS", "20000"))
LENGTH = 60  # Steps an example has at the most; most have as many.
LONG, SHORT = 10 * 3600 * 1000, 1  # Milliseconds.
CHOSEN = Settings(gpus=Gpus(scan_interval=1000.0))  # No scan of these is too old.
UIDS = st.sampled_from((1001, 1002, 1003))
SOME = st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True).map(lambda ids: tuple(sorted(ids)))
LIMITS = st.sampled_from((None, None, None, 1, 2, 3))
ABOUT = ("reservation.", "request.", "gpu.drained", "gpu.undrained", "gpu.managed", "gpu.unmanaged")


class Machine(RuleBasedStateMachine):
    """One host of four GPUs and three users."""

    url: ClassVar[str]
    steps: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.store = Store(self.url, f"model-{uuid.uuid4().hex[:12]}")
        self.allocator = Allocator(CHOSEN, self.store)
        self.model = Reference({index: Gpu(index) for index in range(4)})
        self.replay = Replay()
        self.world: dict[int, tuple[str, frozenset[int]]] = dict.fromkeys(range(4), ("ok", frozenset()))
        self.last_id = "-"
        self.again: Callable[[], Any] | None = None
        self.answer: Any = None

    def do(self, work: Any) -> Any:
        """Run one coroutine; the model is told what time it was in Redis."""
        type(self).steps += 1
        result = self.runner.run(work)
        self.told = self.runner.run(self.news())
        return result

    async def news(self) -> list[tuple[str, str]]:
        """Take the events since the last step."""
        start = "-" if self.last_id == "-" else f"({self.last_id}"
        rows: Any = await self.store.redis.xrange(self.store.keys.events, start)
        found = []
        for key, fields in rows:
            self.last_id = key.decode()
            event = decode(fields)
            self.replay.take(event)
            kind = event.type.removeprefix("canhazgpu.")
            if kind.startswith(ABOUT):
                found.append((kind, event.subject))
        return found

    def agree(self, code: str, expected: str) -> None:
        """Check that both said the same, and that Redis told exactly what the model did."""
        assert code == expected
        told, self.model.told = self.model.told, []
        assert sorted(self.told) == sorted(told)

    def clock(self) -> None:
        """Set the model's time to Redis': releases of one step happen in the millisecond of its script."""
        rows = self.runner.run(self.released())
        for index, moment in rows.items():
            self.model.gpus[index].released = moment

    async def released(self) -> dict[int, int]:
        """When each GPU was released, in Redis' words."""
        found = {}
        for index in range(4):
            text: Any = await self.store.redis.hget(self.store.keys.gpu(index), "last_released")
            found[index] = int(text or 0)
        return found

    @initialize()
    def begin(self) -> None:
        """The first scan finds four idle GPUs."""
        self.scan()

    @rule()
    def scan(self) -> None:
        """Publish the world."""
        usages = [usage(index, *seen) for index, seen in self.world.items()]
        self.do(observe(self.store, usages, 0.0, 60.0, rules=Rules.of(CHOSEN)))
        self.model.scan(self.world)
        self.clock()
        self.agree("", "")

    @rule(index=st.integers(0, 3), uid=UIDS)
    def start_or_stop(self, index: int, uid: int) -> None:
        """A process of a user appears on a GPU, or goes; nobody has seen it yet."""
        state, users = self.world[index]
        self.world[index] = (state, users ^ {uid})

    @precondition(lambda self: self.model.held)
    @rule(choice=st.integers(0, 9))
    def work(self, choice: int) -> None:
        """A holder uses what is theirs."""
        names = sorted(self.model.held)
        held = self.model.held[names[choice % len(names)]]
        state, users = self.world[held.gpus[0]]
        self.world[held.gpus[0]] = (state, users | {held.uid})

    @rule(index=st.integers(0, 3), state=st.sampled_from(("ok", "ok", "error", "unknown")))
    def break_or_mend(self, index: int, state: str) -> None:
        """A GPU fails, answers no more, or is well."""
        self.world[index] = (state, self.world[index][1])

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
        lasts = SHORT if request.short else LONG
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
            return self.allocator.extend(uid, operation, gpus=ids, add_ms=LONG, most_ms=None)

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

    @precondition(lambda self: any(held.kind == "run" for held in self.model.held.values()))
    @rule(choice=st.integers(0, 9))
    def end_process(self, choice: int) -> None:
        """The process of a run ends."""
        runs = sorted(name for name, held in self.model.held.items() if held.kind == "run")
        name = runs[choice % len(runs)]
        done = self.do(self.allocator.conclude(name))
        self.agree(str(done), str(self.model.conclude(name)))

    @rule()
    def expire(self) -> None:
        """The service looks for what is over."""
        time.sleep(0.003)
        self.do(self.allocator.expire())
        self.model.expire()
        self.clock()
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

    @invariant()
    def the_same(self) -> None:
        """Redis, the model and the replay of the events agree, and nothing is held twice."""
        self.runner.run(compare(self.store, self.model, self.replay))

    def teardown(self) -> None:
        """Close the connections."""
        self.runner.run(self.store.close())
        self.runner.close()


@pytest.mark.slow
@pytest.mark.timeout(900 if STEPS <= 20000 else 36000)
def test_the_scripts_do_what_the_reference_does(redis_url: str) -> None:
    """No difference in all these steps, made up anew by Hypothesis on every run."""
    Machine.url, Machine.steps = redis_url, 0
    chosen = settings(
        max_examples=max(50, STEPS // LENGTH // 8),
        stateful_step_count=LENGTH,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    while Machine.steps < STEPS:
        run_state_machine_as_test(Machine, settings=chosen)
    assert Machine.steps >= STEPS
