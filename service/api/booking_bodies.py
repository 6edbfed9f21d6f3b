"""The bodies of requests about bookings and maintenance."""

from typing import Annotated, Literal

from msgspec import Meta

from canhazgpu.events.gpu import Vendor
from canhazgpu.service.api.requests import (
    MOST_GPUS,
    Gpus,
    Label,
    Names,
    OperationRequest,
    Reason,
    Words,
    Zone,
)

MOST_REPEATS = 99  # Further begins of a series of bookings.


class BookRequest(OperationRequest, frozen=True, kw_only=True):
    """Book any `count` of GPUs, or exactly `gpus`, as in a request to reserve them, for `duration`.

    `begin` is RFC 3339 with a time zone; `zone` is the name of that in which the user wrote it.
    """

    begin: Words
    zone: Zone = ""
    count: Annotated[int, Meta(ge=1, le=MOST_GPUS)] | None = None
    vendor: Vendor | None = None
    gpus: Gpus | Literal["all"] | None = None
    duration: Words | None = None
    label: Label | None = None
    note: Words | None = None


class BookSeriesRequest(BookRequest, frozen=True, kw_only=True):
    """Book GPUs for several windows of the same length: for all of them, or for none.

    They begin at `begin` and at the `repeats`, each later than the one before.
    """

    repeats: Annotated[list[Words], Meta(min_length=1, max_length=MOST_REPEATS)]


class CancelBookingRequest(OperationRequest, frozen=True, kw_only=True):
    """Cancel bookings of the caller or, for administrators, of `user`.

    `ids` are those of bookings, beginnings of them, or those of series.
    """

    ids: Names
    user: Label | None = None


class MaintenanceRequest(OperationRequest, frozen=True, kw_only=True):
    """Drain `gpus` for maintenance, from `begin` on for `duration`; only for administrators.

    `begin` is RFC 3339 with a time zone; `zone` is the name of that in which the administrator wrote it.
    """

    gpus: Gpus | Literal["all"]
    begin: Words
    duration: Words
    zone: Zone = ""
    reason: Reason | None = None
