"""One host of four GPUs: its Redis, its reference, what is done to its GPUs, and a clock that can be set."""

import asyncio
import os
import time
import uuid
from collections.abc import Callable
from typing import Any, ClassVar

import msgspec
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
from model.reference import IDLE, LONG, NOBODY, RELEASE, WARNING, Gpu, Reference, visible
from model.replay import Replay

from canhazgpu.config.notices import Notices
from canhazgpu.config.settings import Gpus, Settings
from canhazgpu.events.envelope import decode
from canhazgpu.events.store import Store
from canhazgpu.service.allocator import Allocator
from canhazgpu.service.observations import observe
from canhazgpu.service.rules import Rules

STEPS = int(os.environ.get("MODEL_STEPS", "20000"))
LENGTH = 60  # Steps an example has at the most; most have as many.
MINUTE = 60_000  # Milliseconds.
LONG_MS = LONG * MINUTE
UIDS = st.sampled_from((1001, 1002, 1003))
# Minutes; no sum of them is close before a moment at which something is due.
STEPS_OF_TIME = st.sampled_from((23, 46, 69, 161, 184, 299))
CHOSEN = Settings(
    gpus=Gpus(scan_interval=1000.0),  # No scan of these is too old, but for one that is made so.
    notices=Notices(expiry_warning=WARNING * 60, idle_after=IDLE * 60, idle_release=RELEASE * 60),
)
AWAY = 4_000_000  # Milliseconds: a gap between two scans that is too long.
ABOUT = ("reservation.", "request.", "gpu.drained", "gpu.undrained", "gpu.managed", "gpu.unmanaged")


class Host(RuleBasedStateMachine):
    """What every machine does: processes come and go, the service looks, and time passes."""

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
        Host.steps += 1
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

    async def shift(self, minutes: int) -> None:
        """Let time pass for the reservations: everything that is kept of them was so much earlier."""
        rows: Any = await self.store.redis.hgetall(self.store.keys.reservations)
        for name, text in rows.items():
            record = msgspec.json.decode(text)
            lasts = ("timeout_ms", "duration_ms")
            moments = {
                key: value for key, value in record.items() if key.endswith("_ms") and key not in lasts
            }
            record |= {key: value - minutes * MINUTE for key, value in moments.items()}
            await self.store.redis.hset(self.store.keys.reservations, name, msgspec.json.encode(record))

    async def leave_unseen(self) -> None:
        """Make the last scan older than any may be."""
        await self.store.redis.hincrby(self.store.keys.scan, "at_ms", -AWAY)

    @initialize()
    def begin(self) -> None:
        """The first scan finds four idle GPUs."""
        self.scan()

    @rule()
    def scan(self) -> None:
        """Publish the world."""
        seen = {index: (state, visible(users)) for index, (state, users) in self.world.items()}
        usages = [usage(index, *one) for index, one in seen.items()]
        self.do(observe(self.store, usages, 0.0, 60.0, rules=Rules.of(CHOSEN)))
        self.model.scan(seen)
        self.clock()
        self.agree("", "")

    @rule(index=st.integers(0, 3), uid=st.one_of(UIDS, st.just(NOBODY)))
    def start_or_stop(self, index: int, uid: int) -> None:
        """A process of a user appears on a GPU, or goes, or memory without one; nobody has seen it yet."""
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

    @rule(minutes=STEPS_OF_TIME)
    def time_passes(self, minutes: int) -> None:
        """Minutes or hours go by."""
        self.do(self.shift(minutes))
        self.model.clock += minutes
        self.agree("", "")

    @rule()
    def be_away(self) -> None:
        """No scan comes for a while."""
        self.do(self.leave_unseen())
        self.model.blind = True
        self.agree("", "")

    @rule(index=st.integers(0, 3), state=st.sampled_from(("ok", "ok", "error", "unknown")))
    def break_or_mend(self, index: int, state: str) -> None:
        """A GPU fails, answers no more, or is well."""
        self.world[index] = (state, self.world[index][1])

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

    @invariant()
    def the_same(self) -> None:
        """Redis, the model and the replay of the events agree, and nothing is held twice."""
        self.runner.run(compare(self.store, self.model, self.replay))

    def teardown(self) -> None:
        """Close the connections."""
        self.runner.run(self.store.close())
        self.runner.close()


def play(machine: type[Host], url: str, steps: int) -> None:
    """Let Hypothesis make up examples until they have so many steps."""
    Host.url, Host.steps = url, 0
    chosen = settings(
        max_examples=max(50, steps // LENGTH // 8),
        stateful_step_count=LENGTH,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    while Host.steps < steps:
        run_state_machine_as_test(machine, settings=chosen)
    assert Host.steps >= steps
