"""Fields keep their names in Redis, so that an upgrade can read the state of an older version."""

import msgspec

from canhazgpu.workers.dispatch.episodes import Episode
from canhazgpu.workers.dispatch.incidents import IncidentState


def test_an_episode_keeps_its_stored_names() -> None:
    """The fields of an episode have the same names in Redis as before they were renamed in Python."""
    assert msgspec.json.schema(Episode)["$defs"]["Episode"]["properties"].keys() >= {
        "told",
        "heard",
        "guests",
        "callings",
        "parting",
        "rehearsed",
    }


def test_an_incident_keeps_its_stored_names() -> None:
    """The fields of an incident have the same names in Redis as before they were renamed in Python."""
    state = b"""{"incident": {"subject": "gpu/0", "reason": "r", "since": "s"},
        "tell_ms": 1, "clear_ms": 2, "well": "w", "told": true}"""
    read = msgspec.json.decode(state, type=IncidentState)
    assert (read.notify_ms, read.resolve_ms, read.recovered_at, read.notified) == (1, 2, "w", True)
