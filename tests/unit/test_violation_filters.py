"""The filters of a query for violations, and the errors about wrong ones."""

from typing import Any

import pytest
from support.event_history import DAY, HOUR, MINUTE, NOW, violation

from canhazgpu.events.timestamps import rfc3339
from canhazgpu.service.violations.filters import filters


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30m", NOW - 30 * MINUTE),
        ("1d12h", NOW - 36 * HOUR),
        ("2026-11-24", 1_795_478_400_000),
        ("2026-11-24T00:00:00Z", 1_795_478_400_000),
        ("2026-11-24 01:00", 1_795_482_000_000),
        ("2026-11-24t01:00:00.5z", 1_795_482_000_500),
        ("2026-11-24T01:00:00+01:00", 1_795_478_400_000),
    ],
)
def test_a_moment_is_a_time_back_or_a_date_in_utc(text: str, expected: int) -> None:
    """A duration counts back from now; a time without a zone is UTC."""
    assert filters({"since": text}, NOW).since_ms == expected
    assert filters({"since": "2020-01-01", "until": text}, NOW).until_ms == expected


def test_what_is_not_said_is_a_week_and_everything() -> None:
    """Without filters, the query covers the seven days before its end."""
    assert filters({"other": ""}, NOW) == filters({}, NOW)
    assert filters({}, NOW).since_ms == NOW - 7 * DAY
    assert filters({"until": "10d"}, NOW).since_ms == NOW - 17 * DAY


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"since": "soon"}, "--since: 'soon' is not a duration"),
        ({"until": "5"}, "--until: '5' is not a duration"),
        ({"since": "2026-13-01"}, "--since: '2026-13-01' is not a time"),
        ({"since": "2026-11-25T25:00"}, "--since: '2026-11-25T25:00' is not a time"),
        ({"since": "2026-W48-3"}, "is not a time"),
        ({"since": "0000-01-01"}, "is not a time"),
        ({"since": "2026-\x1b[2J"}, r"\x1b"),
        ({"since": "2027-01-01"}, "--since is in the future"),
        ({"since": "1h", "until": "2h"}, "--since is not before --until"),
        ({"since": "2026-11-24", "until": "2026-11-24"}, "--since is not before --until"),
        ({"gpu": "-1"}, "--gpu: '-1' is not the number of a GPU"),
        ({"gpu": "two"}, "--gpu: 'two' is not the number of a GPU"),
        ({"gpu": "1e3"}, "is not the number of a GPU"),
        ({"gpu": "٣"}, "is not the number of a GPU"),
        ({"gpu": "10000000"}, "is not the number of a GPU"),
        ({"gpu": "0:"}, "is not the number of a GPU"),
        ({"gpu": "0:1:2"}, "is not the number of a GPU"),
        ({"user": ""}, "--user: the value is empty"),
        ({"since": " "}, "--since: the value is empty"),
        ({"kind": "theft"}, "use one of unreserved, trespass, overstaying"),
    ],
)
def test_what_makes_no_sense_is_said(words: dict[str, str], said: str) -> None:
    """An error names the option and what is accepted, in printable form."""
    with pytest.raises(ValueError, match="-") as refused:
        filters(words, NOW, lambda name: f"--{name}")
    assert said in str(refused.value)
    assert str(refused.value).isprintable()


def test_a_violation_fits_when_it_lasted_within_the_span() -> None:
    """A violation matches if it lasted within the period; open ones have no end."""
    wanted = filters({"since": "3h", "until": "1h"}, NOW)

    def fits(began: int, closed: int | None) -> bool:
        facts: dict[str, Any] = {} if closed is None else {"closed": rfc3339(NOW - closed * HOUR)}
        return wanted.fits(violation(NOW - began * HOUR, **facts))

    assert fits(5, 2)
    assert fits(2, None)
    assert fits(5, None)
    assert not fits(5, 4)
    assert not fits(0, None)


def test_each_filter_leaves_out_what_differs() -> None:
    """User, GPU and kind each exclude what differs."""
    one = violation(NOW - HOUR, gpu=3, kind="trespass")
    for name, same, other in (("user", "bob", "bo"), ("gpu", "3", "0"), ("kind", "trespass", "unreserved")):
        assert filters({name: same}, NOW).fits(one)
        assert not filters({name: other}, NOW).fits(one)
