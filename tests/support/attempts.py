"""Delivery attempts as events report them."""

import msgspec

from canhazgpu.events.notices import Delivery


def attempt(**facts: object) -> Delivery:
    """Return an attempt: by default, a delivered mail to bob."""
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
