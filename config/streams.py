"""The settings of what Redis keeps of the past, and of those who read it."""

from typing import Annotated

from msgspec import Meta, Struct

from canhazgpu.config.kinds import Duration, about


class Streams(Struct, frozen=True, kw_only=True):
    """How much Redis keeps of the past."""

    memory_mb: Annotated[
        int,
        Meta(ge=16),
        about(
            "The most memory, in MiB, that the five event streams may use together. Above it the oldest"
            " entries go first, and then the consumer group that is furthest behind is abandoned."
        ),
    ] = 512


class Consumers(Struct, frozen=True, kw_only=True):
    """Consumer groups on the event streams."""

    abandon_after: Annotated[
        Duration,
        about(
            "A consumer group that is behind and that nobody has read for so long is abandoned: no entry is"
            " kept for it any more.",
            least=1.0,
        ),
    ] = 30 * 86400.0
