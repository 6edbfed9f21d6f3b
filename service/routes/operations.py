"""Every method of every path of the API, with the types of its request and response, as data."""

from typing import Any

from canhazgpu.events.contract.values import VIOLATION_KINDS
from canhazgpu.events.notices import Delivery
from canhazgpu.events.outbox import DeadLetter
from canhazgpu.service.api import requests
from canhazgpu.service.api import responses as api_responses
from canhazgpu.service.api.health_response import HealthResponse
from canhazgpu.service.report.report import BY
from canhazgpu.service.report.responses import ReportResponse
from canhazgpu.service.reservations.ended import EndedReservationResponse
from canhazgpu.service.routes.event_routes.event_stream import EVENTS
from canhazgpu.service.routes.fleet import FLEET
from canhazgpu.service.routes.fleet_past import FLEET_PAST
from canhazgpu.service.routes.metrics import METRICS
from canhazgpu.service.routes.operation import FLAG, SINCE, TEXT, WRITES, Operation
from canhazgpu.service.routes.reservation_routes.bookings import BOOKINGS
from canhazgpu.service.routes.reservation_routes.containers import CHECK
from canhazgpu.service.status.gpu_holders import GpuHolderResponse
from canhazgpu.service.status.user_status import UserResponse
from canhazgpu.service.violations.responses import TimelineResponse

OPERATIONS = (
    Operation(method="get", path="/v1/health", about="The service's health.", reply=HealthResponse),
    Operation(
        method="get",
        path="/v1/status",
        about="All GPUs.",
        reply=list[api_responses.GpuResponse],
        query={"fresh": (FLAG, "1: wait for a new scan.")},
    ),
    METRICS,
    Operation(
        method="get",
        path="/v1/violations",
        about="Violations: GPU use without a valid reservation, oldest first.",
        reply=list[api_responses.ViolationResponse],
        query={
            "since": (TEXT, "Violations that ended then or later: 7d, 2026-11-25, 2026-11-25T14:30:00Z."),
            "until": (TEXT, "Violations that started by this time; same syntax as since."),
            "user": (TEXT, "Only violations of this user."),
            "gpu": (TEXT, "Only violations on this GPU: its index, `0:1`, or the beginning of its UUID."),
            "kind": ({"enum": list(VIOLATION_KINDS)}, "Only violations of this kind."),
            "open": (FLAG, "1: only open violations."),
            "unreached": (FLAG, "1: only violations whose user could not be notified."),
        },
    ),
    Operation(
        method="get",
        path="/v1/violations/{violation}",
        about="One violation, by its id or the start of its id, with its timeline.",
        reply=TimelineResponse,
        problems=(404,),
    ),
    Operation(
        method="get",
        path="/v1/report",
        about="GPU-hours: reserved, used, held idle, used without a reservation, free, and waiting time.",
        reply=ReportResponse,
        query={
            "since": (TEXT, "Start of the period: 7d (ago, the default), 2026-11-25, 2026-11-25T14:30:00Z."),
            "until": (TEXT, "End of the period, now by default; same syntax as since."),
            "by": ({"enum": list(BY)}, "What each row stands for."),
            "user": (TEXT, "Only the hours of this user."),
            "own": (FLAG, "1: only your own."),
            "zone": (TEXT, "Time zone of days and of the week: UTC, local or a name; UTC by default."),
        },
    ),
    Operation(
        method="get",
        path="/v1/silences",
        about="All live silences, sorted by end time.",
        reply=list[api_responses.SilenceResponse],
    ),
    Operation(
        method="post",
        path="/v1/silences",
        about="Suppress notices about some violations for a limited time; administrators only.",
        reply=api_responses.SilenceResponse,
        code=201,
        body=requests.SilenceRequest,
        problems=WRITES,
    ),
    Operation(
        method="post",
        path="/v1/silences/ack",
        about="Acknowledge your own open violations, once per episode.",
        reply=api_responses.SilenceResponse,
        code=201,
        body=requests.AckRequest,
        problems=WRITES,
    ),
    Operation(
        method="post",
        path="/v1/silences/{silence}/expire",
        about="End a silence early. Users can end their own acknowledgement, administrators any silence.",
        reply=api_responses.SilenceResponse,
        body=requests.UnsilenceRequest,
        problems=(*WRITES, 404),
    ),
    EVENTS,
    Operation(
        method="get",
        path="/v1/deliveries",
        about="Attempts to deliver notices.",
        reply=list[Delivery],
        query={**SINCE, "notice": (TEXT, "Only attempts for this notice.")},
    ),
    Operation(
        method="get",
        path="/v1/deadletters",
        about="Dead letters: notices that could not be delivered; administrators only.",
        reply=list[DeadLetter],
        problems=(403,),
    ),
    Operation(
        method="post",
        path="/v1/deadletters/{letter}/replay",
        about="Deliver a dead letter again; administrators only.",
        reply=api_responses.ReplayResponse,
        problems=(403, 404),
    ),
    Operation(
        method="post",
        path="/v1/notices/test",
        about="Send a test notice.",
        reply=api_responses.TestNoticeResponse,
        code=202,
        body=requests.TestNoticeRequest,
        problems=WRITES,
    ),
    Operation(
        method="get",
        path="/v1/reservations",
        about="All live reservations, oldest first.",
        reply=list[api_responses.ReservationResponse],
    ),
    Operation(
        method="get",
        path="/v1/reservations/own",
        about="The caller's own live reservations, oldest first, with their environment.",
        reply=list[api_responses.OwnReservationResponse],
    ),
    Operation(
        method="get",
        path="/v1/check",
        about="The holder of each GPU, and whether that is the caller.",
        reply=list[GpuHolderResponse],
    ),
    Operation(
        method="get",
        path="/v1/reservations/ended",
        about="Reservations that have ended, oldest first.",
        reply=list[EndedReservationResponse],
        query={
            "since": (TEXT, "Reservations that ended then or later; as for violations (default: 7d)."),
            "until": (TEXT, "Reservations that ended by this time; same syntax."),
            "user": (TEXT, "Only reservations of this user."),
            "own": (FLAG, "1: only reservations of the caller."),
            "gpu": (TEXT, "Only reservations of this GPU: its index, `0:1`, or the beginning of its UUID."),
            "n": (TEXT, "At most this many, the newest ones."),
        },
    ),
    Operation(
        method="get",
        path="/v1/users",
        about="How many GPUs each user holds, uses and waits for now.",
        reply=list[UserResponse],
    ),
    Operation(
        method="post",
        path="/v1/reservations",
        about="Reserve GPUs, all or none. With `wait`: JSON lines."
        " If the answer is not read, they are released.",
        reply=api_responses.GrantedResponse,
        code=201,
        body=requests.ReserveRequest,
        problems=WRITES,
    ),
    Operation(
        method="post",
        path="/v1/jobs",
        about="Reserve GPUs for a job of a scheduler; root only. With `wait`: JSON lines.",
        reply=api_responses.GrantedResponse,
        code=201,
        body=requests.JobRequest,
        problems=WRITES,
    ),
    Operation(
        method="post",
        path="/v1/jobs/release",
        about="End the reservation of a job; root only.",
        reply=list[api_responses.ReleasedResponse],
        body=requests.JobEndRequest,
        problems=WRITES,
    ),
    CHECK,
    Operation(
        method="post",
        path="/v1/jobs/label",
        about="Label a reservation with the job that it turned out to be for; root only.",
        reply=api_responses.LabelledResponse,
        body=requests.JobLabelRequest,
        problems=WRITES,
    ),
    Operation(
        method="post",
        path="/v1/reservations/release",
        about="End your own reservations.",
        reply=list[api_responses.ReleasedResponse],
        body=requests.ReleaseRequest,
        problems=WRITES,
    ),
    Operation(
        method="post",
        path="/v1/reservations/extend",
        about="Extend your own manual reservations.",
        reply=list[api_responses.ReservationResponse],
        body=requests.ExtendRequest,
        problems=WRITES,
    ),
    Operation(
        method="post",
        path="/v1/reservations/disown",
        about="Declare that presumed use of your reserved GPUs is not yours.",
        reply=list[api_responses.DisownedResponse],
        body=requests.DisownRequest,
        problems=WRITES,
    ),
    Operation(
        method="get",
        path="/v1/queue",
        about="The waiting requests, in order.",
        reply=list[api_responses.QueueEntryResponse],
    ),
    Operation(
        method="post",
        path="/v1/queue/cancel",
        about="Cancel waiting requests: your own or, for administrators, those of a user.",
        reply=list[api_responses.CancelledResponse],
        body=requests.CancelRequest,
        problems=(*WRITES, 404),
    ),
    Operation(
        method="delete",
        path="/v1/queue/{request}",
        about="Remove your own request from the queue.",
        reply=api_responses.LeaveResponse,
        problems=(403, 404),
    ),
    *BOOKINGS,
    Operation(
        method="post",
        path="/v1/admin/release",
        about="End reservations of any user; administrators only.",
        reply=list[api_responses.ReleasedResponse],
        body=requests.AdminReleaseRequest,
        problems=WRITES,
    ),
    Operation(
        method="post",
        path="/v1/admin/drain",
        about="Stop allocating GPUs; administrators only.",
        reply=api_responses.DrainResponse,
        body=requests.DrainRequest,
        problems=WRITES,
    ),
    Operation(
        method="post",
        path="/v1/admin/undrain",
        about="Allocate drained GPUs again; administrators only.",
        reply=api_responses.DrainResponse,
        body=requests.DrainRequest,
        problems=WRITES,
    ),
    Operation(
        method="post",
        path="/v1/admin/manage",
        about="Set which GPUs can be reserved; administrators only.",
        reply=api_responses.ManageResponse,
        body=requests.ManageRequest,
        problems=WRITES,
    ),
    *FLEET,
    *FLEET_PAST,
    Operation(method="get", path="/v1/openapi.json", about="This document.", reply=dict[str, Any]),
)
