"""The Lua scripts on a real Redis are compared with the reference after each random step."""

import os
import time
import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule, run_state_machine_as_test
from model.booking_steps import UIDS
from model.comparison import PROFILES, compare
from model.facts import Request
from model.gpu_steps import SOME, GpuSteps

from canhazgpu.service.api.errors import Problem
from canhazgpu.service.reservations.allocator import AllocationRequest
from canhazgpu.service.reservations.cancellation import Cancellations
from canhazgpu.service.reservations.releases import ReleaseOrder

STEPS = int(os.environ.get("MODEL_STEPS", "20000"))
pytestmark = [pytest.mark.heavy, pytest.mark.slow, pytest.mark.timeout(3600 if STEPS <= 20000 else 36000)]
LENGTH = 60  # Steps an example has at the most; most have as many.
LONG, SHORT = 10 * 3600 * 1000, 1  # Milliseconds.
MOST = st.sampled_from((None, None, 15 * 3600 * 1000, 35 * 3600 * 1000))  # Never near a multiple of LONG.
LIMITS = st.sampled_from((None, None, None, 1, 2, 3))


class Machine(GpuSteps):
    """The steps of the state machine, and the invariant after each."""

    @initialize(policy=st.sampled_from(("lru", "mru-per-user")))
    def begin(self, policy: str) -> None:
        """The first scan finds four idle GPUs."""
        self.choose(policy)
        self.scan()

    @rule(
        uid=UIDS,
        kind=st.sampled_from(("run", "manual")),
        count=st.integers(1, 5),
        ids=st.one_of(st.none(), SOME),
        wait=st.booleans(),
        limit=LIMITS,
        vendor=st.sampled_from((None, None, "nvidia", "amd")),
        profile=st.sampled_from((None, None, None, *PROFILES)),
        short=st.booleans(),
    )
    def reserve(self, ids: Any, *, short: bool, vendor: Any, profile: Any, **wanted: Any) -> None:
        """A user requests GPUs or MIG instances. What is short is over when the next step comes."""
        ids = ids and self.existing(ids)
        profile = None if ids else profile
        vendor = None if ids or profile else vendor
        request = Request(ids=ids, vendor=vendor, profile=profile, **wanted)
        if request.kind == "manual":
            request.lasts = SHORT if short else LONG
        elif short:
            request.timeout = LONG
        ask = AllocationRequest(
            kind=request.kind,
            user=f"u{request.uid}",
            uid=request.uid,
            count=None if ids else request.count,
            gpus=ids,
            vendor=vendor,
            profile=profile,
            limit=request.limit,
            wait=request.wait,
            duration_ms=request.lasts,
            timeout_ms=request.timeout,
        )
        operation = uuid.uuid4().hex
        reply = self.do(self.allocator.reserve(ask, operation))
        request.id = reply.id
        self.agree(reply.code, self.model.reserve(request))
        time.sleep(0.003 if request.lasts == SHORT else 0)

        def again() -> None:
            repeated = self.do(self.allocator.reserve(ask, operation))
            if reply.code in ("granted", "queued"):  # What became of it, whatever that is by now.
                assert repeated.id == request.id
                self.agree(repeated.code, self.model.back(request))
            else:
                assert repeated == reply
                self.agree("", "")

        self.again = again

    def repeats(self, ask: Any, reply: Any) -> None:
        """Remember the request: repeated later, it changes nothing and gets the same response."""

        def again() -> None:
            assert self.do(ask()) == reply
            self.agree("", "")

        self.again = again

    def releases(self, order: ReleaseOrder) -> None:
        """Release in Redis and in the reference."""
        operation = uuid.uuid4().hex

        def ask() -> Any:
            return self.allocator.release(order, operation)

        reply = self.do(ask())
        expected = self.model.release(order)
        self.clock()
        self.agree(reply[0], expected)
        self.repeats(ask, reply)

    @rule(uid=UIDS, ids=st.one_of(st.none(), SOME), everything=st.booleans(), admin=st.booleans())
    def release(self, uid: int, ids: tuple[int, ...] | None, *, everything: bool, admin: bool) -> None:
        """A user releases GPUs, or an administrator does."""
        ids = ids and self.existing(ids)
        self.releases(
            ReleaseOrder(
                uid=uid, by="x", reason="released", gpus=ids, all=everything, admin=admin and ids is not None
            )
        )

    @rule(uid=UIDS, everybody=st.booleans())
    def release_all(self, uid: int, *, everybody: bool) -> None:
        """An administrator releases all reservations of a user, or of every user."""
        order = ReleaseOrder(uid=uid, by="x", reason="admin", all=True, admin=True, everybody=everybody)
        self.releases(order)

    @precondition(lambda self: self.model.held)
    @rule(uid=UIDS, choice=st.integers(0, 9), admin=st.booleans(), over=st.booleans())
    def release_by_id(self, uid: int, choice: int, *, admin: bool, over: bool) -> None:
        """A user releases a reservation by its id, perhaps together with one that has ended."""
        names = sorted(self.model.held)
        ids = (names[choice % len(names)], *(("r1-0",) if over else ()))
        self.releases(ReleaseOrder(uid=uid, by="x", reason="undelivered", ids=ids, admin=admin))

    @rule(uid=UIDS, ids=st.one_of(st.none(), SOME), most=MOST)
    def extend(self, uid: int, ids: tuple[int, ...] | None, most: int | None) -> None:
        """A user extends reservations, up to a longest duration."""
        ids = ids and self.existing(ids)
        operation = uuid.uuid4().hex

        def ask() -> Any:
            return self.allocator.extend(uid, operation, gpus=ids, add_ms=LONG, most_ms=most)

        reply = self.do(ask())
        self.agree(reply["code"], self.model.extend(uid, ids, LONG, most))
        self.repeats(ask, reply)

    @rule(strangers=st.booleans())
    def heartbeat(self, *, strangers: bool) -> None:
        """The service sends heartbeats, also for runs that have ended: these stay ended."""
        names = [name for name, held in self.model.held.items() if held.kind == "run"]
        self.do(self.allocator.heartbeat([*names, "r1-0"] if strangers or not names else names))
        self.agree("", "")

    @precondition(lambda self: self.again is not None)
    @rule()
    def repeat(self) -> None:
        """A request is repeated because its response was lost."""
        assert self.again
        self.again()

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
        """The service ends expired reservations."""
        time.sleep(0.003)
        self.do(self.allocator.expire())
        self.model.expire()
        self.clock()
        self.agree("", "")

    @precondition(lambda self: self.model.queue)
    @rule(choice=st.integers(0, 9))
    def leave(self, choice: int) -> None:
        """A waiting user gives up."""
        name = self.model.queue[choice % len(self.model.queue)].id
        self.do(self.allocator.leave([name], "cancelled"))
        self.model.leave(name)
        self.agree("", "")

    @rule(uid=UIDS, everything=st.booleans(), others=st.booleans(), choice=st.integers(0, 9))
    def cancel(self, uid: int, choice: int, *, everything: bool, others: bool) -> None:
        """Somebody cancels their only request, all of them, or one by its id."""
        names = [request.id for request in self.model.queue]
        ids = [names[choice % len(names)]] if others and names and not everything else None
        expected, gone = self.model.cancel(uid, ids, everything=everything)
        cancellations, operation = Cancellations(self.allocator), uuid.uuid4().hex
        code, done = "done", []
        try:
            done = self.do(cancellations.cancel(uid, operation, "x", ids=ids, everything=everything))
        except Problem as refused:
            code = refused.kind
        assert sorted(one["id"] for one in done) == sorted(gone)
        self.agree(code, expected)

    @rule()
    def restart(self) -> None:
        """The service restarts and has no connection to a waiting command yet."""
        self.begin_anew()
        self.again = None
        self.do(self.allocator.adopt())
        for request in self.model.queue:
            request.attached = False
        self.agree("", "")

    @precondition(lambda self: self.model.queue)
    @rule(choice=st.integers(0, 9))
    def come_back(self, choice: int) -> None:
        """A waiting command reconnects."""
        request = self.model.queue[choice % len(self.model.queue)]
        ask = AllocationRequest(
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
        """Redis loses its cached scripts."""
        self.do(self.store.redis.script_flush())

    @invariant()
    def the_same(self) -> None:
        """Redis, the reference and the replay of the events agree, and no GPU has two holders."""
        compare(self.seen, self.model, self.replay)


def test_the_scripts_do_what_the_reference_does(redis_url: str) -> None:
    """In 20,000 random steps, new in every run, the scripts and the reference never differ."""
    Machine.url, Machine.steps = redis_url, 0
    chosen = settings(
        max_examples=max(50, STEPS // LENGTH // 8),
        stateful_step_count=LENGTH,
        derandomize=False,  # As Hypothesis has it where CI is set: the same steps over and over.
        suppress_health_check=list(HealthCheck),
    )
    began = time.monotonic()
    while Machine.steps < STEPS:
        run_state_machine_as_test(Machine, settings=chosen)
    assert Machine.steps >= STEPS
    print(f"{Machine.steps} steps in {time.monotonic() - began:.0f} s, no difference")  # noqa: T201 - for -s
