"""The limit on changes per user: a burst, then an even rate, and no effect on other users."""

from contextlib import suppress

import pytest

from canhazgpu.config.settings import Settings
from canhazgpu.service.api import rate_limit as module
from canhazgpu.service.api.errors import Problem
from canhazgpu.service.api.rate_limit import HOUR, RateLimit

BOB, ALICE = 1001, 1002


class Clock:
    """A clock that the test sets."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def taken(pace: RateLimit, uid: int, tries: int = 1) -> int:
    """Return how many of some changes are allowed."""
    done = 0
    for _ in range(tries):
        with suppress(Problem):
            pace.take(uid)
            done += 1
    return done


def test_a_loop_over_a_day_has_a_bound() -> None:
    """A user who tries all the time gets the burst and the hourly rate; another user is not affected."""
    clock = Clock()
    pace = RateLimit(60, clock)
    done = 0
    for _ in range(24 * 3600):
        done += taken(pace, BOB)
        clock.now += 1
    assert done == pytest.approx(60 + 24 * 60, abs=1)
    assert taken(pace, ALICE, 100) == 60


def test_the_refusal_says_when_and_whom_to_ask() -> None:
    """The refusal has its own type, and the seconds until the next change."""
    clock = Clock()
    pace = RateLimit(60, clock)
    taken(pace, BOB, 60)
    clock.now += 10
    with pytest.raises(Problem) as refused:
        pace.take(BOB)
    assert (refused.value.status, refused.value.kind) == (429, "too-often")
    assert refused.value.detail == "you have reached your limit of 60 changes per hour"
    assert refused.value.remedy == "try again in 50 s; an administrator can raise limits.changes_per_hour"
    clock.now += 50
    assert taken(pace, BOB, 2) == 1


def test_what_users_normally_do_is_far_from_the_bound() -> None:
    """A sweep of a thousand runs at once, and one every four seconds all day, are below the limit."""
    clock = Clock()
    pace = RateLimit(Settings().limits.changes_per_hour, clock)
    assert taken(pace, BOB, 1000) == 1000
    for _ in range(6 * 3600):
        clock.now += 4
        assert taken(pace, BOB) == 1
    clock.now += HOUR
    done = 0
    for _ in range(3600):
        clock.now += 1
        done += taken(pace, BOB)
    assert done == pytest.approx(2000, abs=1)


def test_users_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Users whose allowance is full again are forgotten, so memory does not grow."""
    monkeypatch.setattr(module, "MOST", 10)
    clock = Clock()
    pace = RateLimit(60, clock)
    for uid in range(100):
        assert taken(pace, uid, 61) == 60
        clock.now += HOUR / 5
    assert len(pace._buckets) <= 10  # noqa: SLF001 - what it remembers is what is asked
