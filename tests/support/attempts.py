"""Attempts to deliver a notice, as events tell of them."""

import msgspec

from canhazgpu.events.notices import Delivery


def attempt(**facts: object) -> Delivery:
    """A mail to bob that was delivered, or as it is said."""
    values: dict[str, object] = {
        "notice": "n1",
        "kind": "opened",
        "channel": "email",
        "recipient": "bob@example.com",
        "outcome": "delivered",
        "attempt": 1,
        "time": "x",
    }
    return msgspec.convert({**values, **facts}, Delivery)
