"""The OpenAPI 3.1 document of the API, generated from the types of requests and responses.

`python -m canhazgpu.service.routes.openapi` prints it. docs/openapi.json is its output; a test fails if they
differ.
"""

import inspect
import sys
from typing import Any

import msgspec
from msgspec import Struct

from canhazgpu.events.notices import Delivery
from canhazgpu.events.outbox import DeadLetter
from canhazgpu.service.api import requests
from canhazgpu.service.api import responses as api_responses
from canhazgpu.service.violations.filters import KINDS
from canhazgpu.service.violations.responses import TimelineResponse

TEXT = {"type": "string"}
FLAG = {"enum": ["0", "1"]}
DESCRIPTION = "HTTP over the service's Unix socket. The kernel identifies the caller."


class Operation(Struct, frozen=True, kw_only=True):
    """One method of one path. `reply` is the type of the response, or None for JSON lines."""

    method: str
    path: str
    about: str
    reply: Any
    code: int = 200
    body: type[Struct] | None = None
    query: dict[str, tuple[dict[str, Any], str]] = {}
    problems: tuple[int, ...] = ()


SINCE: dict[str, tuple[dict[str, Any], str]] = {"since": (TEXT, "How far to look back: 30m, 7d.")}
READS = (400, 503)
WRITES = (400, 403, 408, 409, 413, 429, 503)
OPERATIONS = (
    Operation(
        method="get",
        path="/v1/health",
        about="The health of the service.",
        reply=api_responses.HealthResponse,
    ),
    Operation(
        method="get",
        path="/v1/status",
        about="All GPUs.",
        reply=list[api_responses.GpuResponse],
        query={"fresh": (FLAG, "1: wait for a new scan.")},
    ),
    Operation(
        method="get",
        path="/v1/violations",
        about="Violations: GPU use without a valid reservation, oldest first.",
        reply=list[api_responses.ViolationResponse],
        query={
            "since": (TEXT, "Only those that ended then or later: 7d, 2026-11-25, 2026-11-25T14:30:00Z."),
            "until": (TEXT, "Only those that began by then; same syntax as since."),
            "user": (TEXT, "Only violations of this user."),
            "gpu": (TEXT, "Only violations on this GPU."),
            "kind": ({"enum": list(KINDS)}, "Only violations of this kind."),
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
        path="/v1/silences",
        about="All live silences, sorted by end time.",
        reply=list[api_responses.SilenceResponse],
    ),
    Operation(
        method="post",
        path="/v1/silences",
        about="Suppress notices about some violations for a time; administrators only.",
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
        about="End a silence early: users their own acknowledgement, administrators any.",
        reply=api_responses.SilenceResponse,
        body=requests.UnsilenceRequest,
        problems=(*WRITES, 404),
    ),
    Operation(
        method="get",
        path="/v1/events",
        about="CloudEvents as JSON lines. In canhazgpu.stream.gap, data.missing counts the lost events.",
        reply=None,
        query={
            "after": (TEXT, "A stream id; only events after it."),
            "type": (TEXT, "A type or the beginning of one; repeatable."),
            "follow": (FLAG, "1: go on to send new events."),
        },
    ),
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
        about="The caller's own live reservations, the oldest first, with their environment.",
        reply=list[api_responses.OwnReservationResponse],
    ),
    Operation(
        method="post",
        path="/v1/reservations",
        about="Reserve GPUs, all or none. With `wait`: JSON lines. Released if the answer is not read.",
        reply=api_responses.GrantedResponse,
        code=201,
        body=requests.ReserveRequest,
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
        method="delete",
        path="/v1/queue/{request}",
        about="Remove your own request from the queue.",
        reply=api_responses.LeaveResponse,
        problems=(403, 404),
    ),
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
    Operation(method="get", path="/v1/openapi.json", about="This document.", reply=dict[str, Any]),
)


def openapi() -> dict[str, Any]:
    """Return the document."""
    types: list[Any] = [api_responses.ProblemDetails]
    for one in OPERATIONS:
        types += [kind for kind in (one.reply, one.body) if kind is not None]
    shown, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    schemas = dict(zip(map(str, types), shown, strict=True))
    for schema in components.values():
        if "description" in schema:
            schema["description"] = inspect.cleandoc(schema["description"])
    paths: dict[str, dict[str, Any]] = {}
    for one in OPERATIONS:
        paths.setdefault(one.path, {})[one.method] = _operation(one, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "canhazgpu", "version": "1.0.0", "description": DESCRIPTION},
        "servers": [{"url": "http://localhost"}],
        "paths": paths,
        "components": {"schemas": components},
    }


def _operation(one: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    lines = {"application/jsonl": {"schema": TEXT}}
    content = lines if one.reply is None else {"application/json": {"schema": schemas[str(one.reply)]}}
    problem = {"application/problem+json": {"schema": schemas[str(api_responses.ProblemDetails)]}}
    responses: dict[str, Any] = {str(one.code): {"description": one.about, "content": content}}
    if one.path == "/v1/reservations" and one.method == "post":
        responses["200"] = {
            "description": "The state of the request, each time it changes.",
            "content": lines,
        }
    for code in sorted({*READS, *one.problems}):
        responses[str(code)] = {"description": "The reason, and what to do.", "content": problem}
    names = [part[1:-1] for part in one.path.split("/") if part.startswith("{")]
    parameters = [{"name": name, "in": "path", "required": True, "schema": TEXT} for name in names]
    parameters += [
        {"name": name, "in": "query", "schema": schema, "description": about}
        for name, (schema, about) in one.query.items()
    ]
    found: dict[str, Any] = {"summary": one.about, "responses": responses}
    if parameters:
        found["parameters"] = parameters
    if one.body:
        body = {"application/json": {"schema": schemas[str(one.body)]}}
        found["requestBody"] = {"required": True, "content": body}
    return found


def document() -> str:
    """Return the document as committed in docs/."""
    return msgspec.json.format(msgspec.json.encode(openapi()), indent=2).decode() + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
