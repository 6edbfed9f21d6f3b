"""Which ended reservations are a user's, also after a change of names."""

from typing import Any

import pytest

from canhazgpu.events.reservations import Reservation
from canhazgpu.service.reservations.ended import EndedFilter

ENDED = Reservation(
    id="r1-1", kind="manual", user="alice", uid=1001, gpus=(0, 3, 5121), started="2026-11-30T10:00:00.000Z"
)


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        ({}, True),
        ({"user": "alice"}, True),
        ({"user": "alice", "uid": 2002}, True),  # She has another uid by now.
        ({"user": "alicia", "uid": 1001}, True),  # She has another name by now.
        ({"uid": 1001}, True),
        ({"user": "bob"}, False),
        ({"user": "bob", "uid": 1002}, False),
        ({"uid": 1002}, False),
        ({"gpu": 3}, True),
        ({"gpu": 1}, False),
        ({"user": "alice", "gpu": 1}, False),
        ({"gpu": 4}, True),  # One of its instances.
        ({"gpu": 5124}, False),  # Another one.
    ],
)
def test_a_filter(wanted: dict[str, Any], fits: bool) -> None:  # noqa: FBT001
    """A user is known by the name or by the uid; a GPU is one of those that were released."""
    assert EndedFilter(since_ms=0, **wanted).fits(ENDED) == fits
