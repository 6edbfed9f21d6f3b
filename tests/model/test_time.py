"""What time alone does to reservations: their end announced, their idleness told, and both carried out.

A calmer host than the one of test_allocator.py: whoever asks gets what is free, and nobody waits, so that
reservations live long enough for something to become due.
"""

import uuid

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule
from model.host import LONG_MS, STEPS, STEPS_OF_TIME, UIDS, Host, play
from model.reference import Request

from canhazgpu.service.allocator import Ask


class Calm(Host):
    """Nothing but reservations, their use, and time."""

    @initialize()
    def begin(self) -> None:
        """Two reservations are there already."""
        self.scan()
        self.reserve(1001, "manual", 2)
        self.reserve(1002, "run", 1)

    @rule(uid=UIDS, kind=st.sampled_from(("run", "manual", "manual")), count=st.integers(1, 2))
    def reserve(self, uid: int, kind: str, count: int) -> None:
        """Somebody takes what is free."""
        request = Request(uid=uid, kind=kind, count=count)
        ask = Ask(
            kind=kind,
            user=f"u{uid}",
            uid=uid,
            count=count,
            duration_ms=LONG_MS if kind == "manual" else None,
        )
        reply = self.do(self.allocator.reserve(ask, uuid.uuid4().hex))
        request.id = reply.id
        self.agree(reply.code, self.model.reserve(request))

    @precondition(lambda self: self.model.held)
    @rule(minutes=STEPS_OF_TIME)
    def time_is_noticed(self, minutes: int) -> None:
        """Time goes by, and the service looks."""
        self.time_passes(minutes)
        self.scan()
        self.expire()

    @precondition(lambda self: any(held.told is not None for held in self.model.held.values()))
    @rule(choice=st.integers(0, 9), state=st.sampled_from(("ok", "ok", "error")))
    def use_what_was_idle(self, choice: int, state: str) -> None:
        """Who was told that they use nothing uses it, or it breaks."""
        told = sorted(name for name, held in self.model.held.items() if held.told is not None)
        held = self.model.held[told[choice % len(told)]]
        users = self.world[held.gpus[-1]][1]
        self.world[held.gpus[-1]] = (state, users | {held.uid})
        self.scan()

    @rule(uid=UIDS)
    def extend(self, uid: int) -> None:
        """Somebody wants more time."""
        reply = self.do(self.allocator.extend(uid, uuid.uuid4().hex, gpus=None, add_ms=LONG_MS, most_ms=None))
        self.agree(reply["code"], self.model.extend(uid, None))


@pytest.mark.slow
@pytest.mark.timeout(900 if STEPS <= 20000 else 36000)
def test_time_does_what_the_reference_says(redis_url: str) -> None:
    """No difference in all these steps, made up anew by Hypothesis on every run."""
    play(Calm, redis_url, STEPS // 4)
