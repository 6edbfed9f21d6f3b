"""The descriptions of events and routes, compared with the released ones: programs of others rely on them."""

import copy
from typing import Any

import pytest
from support.schema_changes import Comparison, released

from canhazgpu.events.schemas import asyncapi
from canhazgpu.service.routes.openapi import openapi

REMEDY = "a changed meaning is a new type, or a new route; docs/events.md says what may be added"


def test_no_event_has_changed_in_a_breaking_way() -> None:
    """Streams, types and fields only come; see `support.schema_changes` after a release."""
    assert list(Comparison(released("asyncapi.json"), asyncapi()).events()) == [], REMEDY


def test_no_route_has_changed_in_a_breaking_way() -> None:
    """A client of the released API still works."""
    assert list(Comparison(released("openapi.json"), openapi()).routes()) == [], REMEDY


def changed(document: dict[str, Any], path: str, change: Any) -> dict[str, Any]:
    """Return a copy in which the value at a path is changed: None removes it, a function gets the old one."""
    found: Any = copy.deepcopy(document)
    place, (*parents, last) = found, path.split(" ")
    for name in parents:
        place = place[name]
    if change is None:
        del place[last]
    else:
        place[last] = change(place[last]) if callable(change) else change
    return dict(found)


VIOLATION = "components schemas Violation"
GAP = "components schemas GroupResumed"


@pytest.mark.parametrize(
    ("path", "change", "said"),
    [
        ("channels violations", None, "violations: the stream is gone"),
        ("channels events address", "canhazgpu:{HOST}:all", "events: the stream is gone, or has another key"),
        (
            "channels violations messages canhazgpu.violation.closed",
            None,
            "violations: canhazgpu.violation.closed is no longer on this stream",
        ),
        ("components messages canhazgpu.gpu.failed", None, "canhazgpu.gpu.failed is gone"),
        (f"{VIOLATION} properties user", None, "payload.user is gone"),
        (
            f"{VIOLATION} required",
            lambda old: [one for one in old if one != "gpu"],
            "payload.gpu: may be missing",
        ),
        (f"{VIOLATION} properties gpu type", "string", "payload.gpu: may be string now"),
        (
            f"{VIOLATION} properties gpu",
            {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            "payload.gpu: may be null now",
        ),
        ("components schemas ProcessUse properties pid", None, "payload.processes[].pid is gone"),
        (f"{GAP} properties stream enum", ["events", "others"], "payload.stream: other values than"),
    ],
)
def test_a_breaking_change_of_an_event_is_found(path: str, change: Any, said: str) -> None:
    """Whatever a consumer could have relied on."""
    old = changed(asyncapi(), f"{GAP} properties stream", {"type": "string", "enum": ["events"]})
    found = list(Comparison(old, changed(old, path, change)).events())
    assert any(said in line for line in found), found


@pytest.mark.parametrize(
    ("path", "change"),
    [
        (f"{VIOLATION} properties", lambda old: {**old, "later": {"type": "string"}}),
        (f"{VIOLATION} required", lambda old: [*old, "hint"]),
        (f"{VIOLATION} description", "Other words."),
        (f"{VIOLATION} properties holder", {"type": "string"}),
        ("channels", lambda old: {**old, "later": old["events"]}),
        ("components messages", lambda old: {**old, "canhazgpu.later.type": old["canhazgpu.gpu.failed"]}),
    ],
)
def test_what_may_change_in_an_event_is_no_breaking_change(path: str, change: Any) -> None:
    """New types and fields, words, and values that are narrower than before."""
    assert list(Comparison(asyncapi(), changed(asyncapi(), path, change)).events()) == []


PARAMETERS = "paths /v1/events get parameters"
LATER = {"name": "later", "in": "query", "schema": {"type": "string"}}
BODY = "components schemas ReserveRequest"


@pytest.mark.parametrize(
    ("path", "change", "said"),
    [
        ("paths /v1/status", None, "GET /v1/status is gone"),
        (PARAMETERS, lambda old: old[1:], "GET /v1/events: the parameter stream is gone"),
        (PARAMETERS, lambda old: [*old, LATER | {"required": True}], "the parameter later is required now"),
        (
            "paths /v1/reservations post responses 201",
            None,
            "POST /v1/reservations: there is no response 201",
        ),
        ("paths /v1/health get responses 200 content", {"text/plain": {}}, "application/json is gone"),
        (f"{BODY} properties note", None, "body.note is gone"),
        (f"{BODY} required", ["note"], "body.note: is required now"),
        (f"{BODY} properties note type", "integer", "body.note: string is no longer accepted"),
    ],
)
def test_a_breaking_change_of_a_route_is_found(path: str, change: Any, said: str) -> None:
    """Whatever a client could have relied on."""
    old = changed(openapi(), f"{BODY} properties note", {"type": "string"})
    found = list(Comparison(old, changed(old, path, change)).routes())
    assert any(said in line for line in found), found


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("paths", lambda old: {**old, "/v1/later": old["/v1/status"]}),
        (PARAMETERS, lambda old: [*old, LATER]),
        (f"{BODY} properties", lambda old: {**old, "later": {"type": "string"}}),
    ],
)
def test_what_may_change_in_a_route_is_no_breaking_change(path: str, change: Any) -> None:
    """New routes, parameters and fields."""
    assert list(Comparison(openapi(), changed(openapi(), path, change)).routes()) == []
