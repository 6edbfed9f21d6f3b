"""The OpenAPI 3.1 document of the API, generated from the types of requests and responses.

`python -m canhazgpu.service.routes.openapi` prints it. docs/openapi.json is its output; a test fails if they
differ.
"""

import inspect
import sys
from typing import Any

import msgspec

from canhazgpu.service.api import responses as api_responses
from canhazgpu.service.routes.operation import READS, TEXT, Operation
from canhazgpu.service.routes.operations import OPERATIONS

DESCRIPTION = "HTTP over the service's Unix socket. The kernel identifies the caller."


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
            "description": DESCRIPTION,
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "http://localhost"}],
        "security": [],  # The kernel says who calls.
        "paths": paths,
        "components": {"schemas": components},
    }


def _operation(one: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    lines = {"application/jsonl": {"schema": TEXT}}
    content = lines if one.reply is None else {"application/json": {"schema": schemas[str(one.reply)]}}
    problem = {"application/problem+json": {"schema": schemas[str(api_responses.ProblemDetails)]}}
    responses: dict[str, Any] = {str(one.code): {"description": one.about, "content": content}}
    if one.path in {"/v1/reservations", "/v1/jobs"} and one.method == "post":
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
    words = [one.method, *(part.strip("{}") for part in one.path.split("/")[2:])]
    operation = "_".join(words).replace(".", "_").replace("-", "_")
    found: dict[str, Any] = {"operationId": operation, "summary": one.about, "responses": responses}
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
