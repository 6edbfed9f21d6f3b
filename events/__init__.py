"""The types shared by all parts of canhazgpu, and the library for consumers of its events.

What is not used is not imported, because commands start with it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from canhazgpu.events.consumer.consumer import Consumer
    from canhazgpu.events.consumer.dead_letters import DeadLetter, GivenUp, read_dead_letters
    from canhazgpu.events.consumer.following import follow
    from canhazgpu.events.consumer.handling import TryAgain
    from canhazgpu.events.consumer.stream_event import Gap, StreamEvent
    from canhazgpu.events.redis_client.endpoint import Endpoint

__all__ = ["Consumer", "DeadLetter", "Endpoint", "Gap", "GivenUp", "StreamEvent", "TryAgain"]
__all__ += ["follow", "read_dead_letters"]
MODULES = {
    "Consumer": "consumer.consumer",
    "DeadLetter": "consumer.dead_letters",
    "Endpoint": "redis_client.endpoint",
    "Gap": "consumer.stream_event",
    "GivenUp": "consumer.dead_letters",
    "StreamEvent": "consumer.stream_event",
    "TryAgain": "consumer.handling",
    "follow": "consumer.following",
    "read_dead_letters": "consumer.dead_letters",
}


def __getattr__(name: str) -> object:
    """Return a public name of the library, from the module that defines it."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(__import__(f"{__name__}.{MODULES[name]}", fromlist=[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
