"""The settings of `canhazgpu exporter`, which serves this host's metrics to Prometheus."""

from typing import Annotated

from msgspec import Meta, Struct

from canhazgpu.config.fields import about


class Exporter(Struct, frozen=True, kw_only=True):
    """Where the metrics are, and how many users they name. The exporter reads these; the service does not."""

    listen: Annotated[
        str,
        about(
            "Address and port of the metrics, such as 127.0.0.1:9836. With [::]:9836, other hosts can read"
            " them, too."
        ),
    ] = "127.0.0.1:9836"
    users: Annotated[
        int,
        Meta(ge=0, le=10_000),
        about(
            "How many users have metrics of their own: those who hold the most GPUs. The others are counted"
            " together, as the user `other`. 0: all together."
        ),
    ] = 50
