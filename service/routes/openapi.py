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
        method="get", path="/v1/health", about="Whether the parts work.", reply=api_responses.HealthResponse
    ),
    Operation(
        method="get",
        path="/v1/status",
        about="Every GPU.",
        reply=list[api_responses.GpuResponse],
        query={"fresh": (FLAG, "1: wait a moment for a scan that begins now.")},
    ),
    Operation(
        method="get",
        path="/v1/violations",
        about="Use of GPUs without the right to it, oldest first.",
        reply=list[api_responses.ViolationResponse],
        query={
            "since": (TEXT, "Those that lasted then or later: 7d back, 2026-11-25, 2026-11-25T14:30:00Z."),
            "until": (TEXT, "Those that had begun by then; as since."),
            "user": (TEXT, "Only this user's."),
            "gpu": (TEXT, "Only on this GPU."),
            "kind": ({"enum": list(KINDS)}, "Only of this kind."),
            "open": (FLAG, "1: only those that last."),
            "unreached": (FLAG, "1: only those whose user was to be told, and could not be."),
        },
    ),
    Operation(
        method="get",
        path="/v1/violations/{violation}",
        about="One violation, by its id or the beginning of it, and everything that happened to it.",
        reply=TimelineResponse,
        problems=(404,),
    ),
    Operation(
        method="get",
        path="/v1/silences",
        about="Every live silence, the first to end first.",
        reply=list[api_responses.SilenceResponse],
    ),
    Operation(
        method="post",
        path="/v1/silences",
        about="For a time nobody is told of some violations; for administrators.",
        reply=api_responses.SilenceResponse,
        code=201,
        body=requests.SilenceRequest,
        problems=WRITES,
    ),
    Operation(
        method="post",
        path="/v1/silences/ack",
        about="Acknowledge one's own open violations, once an episode.",
        reply=api_responses.SilenceResponse,
        code=201,
        body=requests.AckRequest,
        problems=WRITES,
    ),
    Operation(
        method="post",
        path="/v1/silences/{silence}/expire",
        about="End a silence now: one's own acknowledgement; administrators any.",
        reply=api_responses.SilenceResponse,
        body=requests.UnsilenceRequest,
        problems=(*WRITES, 404),
    ),
    Operation(
        method="get",
        path="/v1/events",
        about="Events as JSON lines, each a CloudEvents envelope with its stream_id. A line of the type "
        "canhazgpu.stream.gap says in data.missing how many are not kept any more (null: not known).",
        reply=None,
        query={
            "after": (TEXT, "A stream id: only what came after it."),
            "type": (TEXT, "A type or its first words; may be said more than once."),
            "follow": (FLAG, "1: go on with what comes."),
        },
    ),
    Operation(
        method="get",
        path="/v1/deliveries",
        about="Attempts to deliver notices.",
        reply=list[Delivery],
        query={**SINCE, "notice": (TEXT, "Only of this notice.")},
    ),
    Operation(
        method="get",
        path="/v1/deadletters",
        about="What channels gave up on; for administrators.",
        reply=list[DeadLetter],
        problems=(403,),
    ),
    Operation(
        method="post",
        path="/v1/deadletters/{letter}/replay",
        about="Try a dead letter again; for administrators.",
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
        about="Every live reservation, the oldest first.",
        reply=list[api_responses.ReservationResponse],
    ),
    Operation(
        method="post",
        path="/v1/reservations",
        about="Reserve GPUs, all or none; with `wait` JSON lines: queued, granted or refused."
        " A manual reservation whose answer is not read to its end is given back.",
        reply=api_responses.GrantedResponse,
        code=201,
        body=requests.ReserveRequest,
        problems=WRITES,
    ),
    Operation(
        method="post",
        path="/v1/reservations/release",
        about="End one's own reservations.",
        reply=list[api_responses.ReleasedResponse],
        body=requests.ReleaseRequest,
        problems=WRITES,
    ),
    Operation(
        method="post",
        path="/v1/reservations/extend",
        about="Let one's own manual reservations last longer.",
        reply=list[api_responses.ReservationResponse],
        body=requests.ExtendRequest,
        problems=WRITES,
    ),
    Operation(
        method="post",
        path="/v1/reservations/disown",
        about="Say that the presumed use of one's reserved GPUs is another's.",
        reply=list[api_responses.DisownedResponse],
        body=requests.DisownRequest,
        problems=WRITES,
    ),
    Operation(
        method="get",
        path="/v1/queue",
        about="Who waits, in order.",
        reply=list[api_responses.QueueEntryResponse],
    ),
    Operation(
        method="delete",
        path="/v1/queue/{request}",
        about="Take one's own request out of the queue.",
        reply=api_responses.LeaveResponse,
        problems=(403, 404),
    ),
    Operation(
        method="post",
        path="/v1/admin/release",
        about="End anybody's reservations; for administrators.",
        reply=list[api_responses.ReleasedResponse],
        body=requests.AdminReleaseRequest,
        problems=WRITES,
    ),
    Operation(
        method="post",
        path="/v1/admin/drain",
        about="Keep GPUs out of allocation; for administrators.",
        reply=api_responses.DrainResponse,
        body=requests.DrainRequest,
        problems=WRITES,
    ),
    Operation(
        method="post",
        path="/v1/admin/undrain",
        about="Give GPUs back to allocation; for administrators.",
        reply=api_responses.DrainResponse,
        body=requests.DrainRequest,
        problems=WRITES,
    ),
    Operation(
        method="post",
        path="/v1/admin/manage",
        about="Say which GPUs are handed out; for administrators.",
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
        "info": {
            "title": "canhazgpu",
            "version": "1.0.0",
            "description": "HTTP over the service's Unix socket. Who asks is who the kernel says.",
        },
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
        responses["200"] = {"description": "Where the request stands, as it changes.", "content": lines}
    for code in sorted({*READS, *one.problems}):
        responses[str(code)] = {"description": "Why not, and what to do.", "content": problem}
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
