"""The settings of the event streams and their consumer groups."""

from typing import Annotated

from msgspec import Meta, Struct

from canhazgpu.config.fields import Duration, about


class Streams(Struct, frozen=True, kw_only=True):
    """How many past events Redis keeps."""

    memory_mb: Annotated[
        int,
        Meta(ge=16),
        about(
            "Maximum memory of the five event streams, in MiB. Above it, the oldest entries are removed"
            " first; if that is not enough, the consumer group that is furthest behind is abandoned."
        ),
    ] = 512


class Consumers(Struct, frozen=True, kw_only=True):
    """Consumer groups on the event streams."""

    abandon_after: Annotated[
        Duration,
        about(
            "A consumer group that is behind and has not been read for this long is abandoned: entries are"
            " no longer kept for it.",
            least=1.0,
        ),
    ] = 30 * 86400.0
