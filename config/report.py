"""The settings of the log of use, from which `canhazgpu report` counts GPU-hours."""

from typing import Annotated

from msgspec import Meta, Struct

from canhazgpu.config.fields import Duration, about


class Report(Struct, frozen=True, kw_only=True):
    """What `canhazgpu report` can look back on, and when a GPU in use counts as held idle."""

    keep: Annotated[
        Duration, about("How long GPU-hours are kept. Reports cannot go back further.", least=1.0)
    ] = 400 * 86400.0
    idle_utilization: Annotated[
        int,
        Meta(ge=0, le=100),
        about("A GPU in use counts as held idle while its utilisation is below this many percent; 0: never."),
    ] = 5
    idle_after: Annotated[
        Duration,
        about(
            "How long the utilisation must stay low before the GPU counts as held idle. Short pauses do not"
            " count."
        ),
    ] = 300.0
