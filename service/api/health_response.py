"""The response of `GET /v1/health`: the service, its Redis, its journal and its streams."""

from msgspec import Struct

from canhazgpu.service.storage.retention import StreamsReport


class ConflictResponse(Struct, kw_only=True):
    """A GPU that two reservations claimed: the holder, and the user who lost it."""

    gpu: int
    holder: str
    loser: str


class RestorationResponse(Struct, kw_only=True):
    """The ids of reservations that were restored after Redis had lost them, and when (RFC 3339).

    `dropped` had already ended: old data had restored them, or they ended while they were lost.
    """

    at: str
    restored: list[str]
    dropped: list[str]
    conflicts: list[ConflictResponse]


class RedisResponse(Struct, kw_only=True):
    """The server with the state: its type (redis or valkey), its version, and the path of its program.

    `program` is null if the server is not the service's own. `damage` describes what was lost from its file
    at a start, if anything.
    """

    server: str
    version: str
    program: str | None
    damage: str | None


class HealthResponse(Struct, kw_only=True):
    """The health of the service: seconds since the last scan, and settings of Redis that are not durable.

    `machine` is an id of this machine that does not depend on the host name (it is not /etc/machine-id).
    `stalled`: why the last scan could not read the GPUs, with its `remedy`; null if it could.
    `journal_weakness`: why the journal or its copy cannot be written, if so. `journal_damage`: what was wrong
    with it when the service started, if anything: damaged, older or gone. `restoration`: the last one since
    then. `streams`: their size and consumer groups; null if not known yet.
    """

    host: str
    machine: str
    scan_age_s: float
    stalled: str | None
    remedy: str | None
    redis: RedisResponse
    redis_weaknesses: list[str]
    journal_weakness: str | None
    journal_damage: str | None
    restoration: RestorationResponse | None
    streams: StreamsReport | None
