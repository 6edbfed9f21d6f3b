"""The answer of the API to a report."""

from msgspec import Struct


class GpuHours(Struct, kw_only=True):
    """GPU-seconds. `reserved` is the sum of active, idle, unused and unseen.

    `active`: reserved and used by the holder; `idle`: the same while the utilisation was low; `unused`:
    reserved and not used by the holder; `unseen`: reserved while the service could not see the use. Not
    reserved: `unreserved` (used), `free`, `out_of_service` (drained or not managed) and `unknown`. These
    eight add up to the time of the GPUs. Beside them, `trespass` is the use of GPUs that others had
    reserved, and `waiting` the time of requests in the queue.
    """

    reserved_s: float = 0.0
    active_s: float = 0.0
    idle_s: float = 0.0
    unused_s: float = 0.0
    unseen_s: float = 0.0
    unreserved_s: float = 0.0
    free_s: float = 0.0
    out_of_service_s: float = 0.0
    unknown_s: float = 0.0
    trespass_s: float = 0.0
    waiting_s: float = 0.0


class ReportRow(GpuHours, kw_only=True):
    """The GPU-seconds of one user, GPU, day, hour or host.

    `key` is the user's name, the GPU's UUID, the start (RFC 3339 in UTC) or the host. `uid` and `gpu_id` are
    null unless the row is about a user with a uid, or about a GPU that is there now.
    """

    key: str
    uid: int | None = None
    gpu_id: int | None = None


class ReportResponse(Struct, kw_only=True):
    """GPU-hours of a period. `user`: whose they are; null if they are everybody's, and free GPUs count too.

    `week`: for each weekday from Monday on, and each hour of the day in `zone`, the share of the GPUs' time
    that was reserved or used (by `user`), from 0 to 1; null if nothing is known of it.
    """

    host: str
    since: str
    until: str
    by: str
    user: str | None
    zone: str
    gpus: int
    total: GpuHours
    rows: list[ReportRow]
    week: list[list[float | None]]


class FleetReportResponse(ReportResponse, kw_only=True):
    """GPU-hours of all hosts. `hosts`: how many; `left_out`: those whose hours cannot be read.

    Each host counts up to the last hour that it has added up, and at most the last 31 days.
    """

    hosts: int
    left_out: list[str]
