"""The holder of each GPU, and whether that is the caller: `canhazgpu check` is made of it."""

from collections.abc import Callable
from typing import Any

import msgspec

from canhazgpu.events.gpu import MigReading, Vendor
from canhazgpu.events.reservations import Record
from canhazgpu.events.spelling.gpu_numbers import card_of
from canhazgpu.service.api.responses import ReservationResponse
from canhazgpu.service.status.gpu_status import reservation
from canhazgpu.service.storage.snapshot import Snapshot


class GpuHolderResponse(msgspec.Struct, kw_only=True):
    """A GPU and its holder. `managed`: users can reserve it. `own`: the reservation is the caller's.

    `ordinal` is the number by which the runtime of its vendor counts it. A MIG instance has a `parent`, the
    GPU that has it in `mig`.
    """

    gpu_id: int
    parent: int | None
    uuid: str
    name: str
    vendor: Vendor
    ordinal: int
    mig: list[MigReading]
    managed: bool
    own: bool
    reservation: ReservationResponse | None


def gpu_holders(snapshot: Snapshot, is_own: Callable[[Record], bool]) -> list[dict[str, Any]]:
    """Return a row for each GPU by index; `is_own` says whether the caller holds a reservation."""
    return [
        {
            "gpu_id": gpu.usage.index,
            "parent": card_of(gpu.usage.index),
            "uuid": gpu.usage.uuid,
            "name": gpu.usage.name,
            "vendor": gpu.usage.vendor,
            "ordinal": gpu.usage.index if gpu.usage.ordinal is None else gpu.usage.ordinal,
            "mig": [msgspec.to_builtins(instance) for instance in gpu.usage.mig],
            "managed": not gpu.unmanaged,
            "own": gpu.reservation is not None and is_own(gpu.reservation),
            "reservation": reservation(gpu.reservation, snapshot.now_ms) if gpu.reservation else None,
        }
        for gpu in snapshot.gpus
    ]
