"""The contract for other programs: an AsyncAPI 3.0 document with a JSON Schema for the data of each event.

`python -m canhazgpu.events.schemas` prints it. docs/asyncapi.json is its output; a test fails if they differ.
"""

import inspect
import sys
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import msgspec

from canhazgpu.events.contract.descriptions import DESCRIPTIONS
from canhazgpu.events.contract.values import VALUES
from canhazgpu.events.envelope import CONTENT_TYPE, SPECVERSION, TYPES
from canhazgpu.events.notices import Delivery, Notice
from canhazgpu.events.redis_client.keys import Keys
from canhazgpu.events.reservations import Booking, GpuHandling, Request, Reservation
from canhazgpu.events.silences import Silence
from canhazgpu.events.violations import Signalled, Violation


class GpuSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The `data` of gpu.changed, failed and recovered. `memory_mb` is the counted memory in MiB.

    `state` is ok, error or unknown; `reason` says why it is not ok, and `remedy` what to do about it.
    `holder` is present if a reservation holds the GPU.
    """

    index: int
    uuid: str
    name: str
    state: str
    reason: str | None
    remedy: str | None = None
    in_use: bool
    users: tuple[str, ...]
    memory_mb: int
    holder: str | None = None


class Renumbering(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU in the `data` of `canhazgpu.gpu.renumbered`: its old and its new index."""

    uuid: str
    was: int
    index: int


class Renumbered(msgspec.Struct, frozen=True, kw_only=True):
    """The `data` of `canhazgpu.gpu.renumbered`: the GPUs whose index has changed, all at the same time."""

    gpus: tuple[Renumbering, ...]


class HostRenamed(msgspec.Struct, frozen=True, kw_only=True):
    """The `data` of `canhazgpu.host.renamed`: the state of a machine is now kept under another name."""

    name: str
    was: str
    machine: str


class Stalled(msgspec.Struct, frozen=True, kw_only=True):
    """The `data` of `canhazgpu.scanner.stalled`: scans cannot reach the driver; why, and what to do."""

    reason: str
    remedy: str


class Resumed(msgspec.Struct, frozen=True, kw_only=True):
    """The `data` of `canhazgpu.scanner.resumed`: how many seconds there was no scan."""

    stalled_s: int


class GroupAbandoned(msgspec.Struct, frozen=True, kw_only=True):
    """The `data` of `canhazgpu.consumer_group.abandoned`: entries are no longer kept for the group.

    It has `behind` unacknowledged entries; `read` is the time since when its position has not changed.
    `reason`: unread (for `consumers.abandon_after`) or memory (the streams exceeded `streams.memory_mb`).
    """

    stream: str
    group: str
    behind: int
    read: str
    reason: str


class GroupResumed(msgspec.Struct, frozen=True, kw_only=True):
    """The `data` of `canhazgpu.consumer_group.resumed`: an abandoned group is being read again.

    `missing` is the number of entries that were removed before the group read them; absent if unknown.
    """

    stream: str
    group: str
    behind: int
    read: str
    missing: int | None = None


DATA: dict[str, type[msgspec.Struct]] = {
    "gpu": GpuSummary,
    "gpu.drained": GpuHandling,
    "gpu.undrained": GpuHandling,
    "gpu.managed": GpuHandling,
    "gpu.unmanaged": GpuHandling,
    "gpu.removed": GpuHandling,
    "gpu.renumbered": Renumbered,
    "reservation": Reservation,
    "request": Request,
    "booking": Booking,
    "violation": Violation,
    "notice": Notice,
    "notice.attempted": Delivery,
    "silence": Silence,
    "process.signalled": Signalled,
    "host.renamed": HostRenamed,
    "scanner.stalled": Stalled,
    "scanner.resumed": Resumed,
    "consumer_group.abandoned": GroupAbandoned,
    "consumer_group.resumed": GroupResumed,
}


def data_of(event_type: str) -> type[msgspec.Struct]:
    """Return the struct of the `data` of an event type such as `canhazgpu.gpu.changed`."""
    name = event_type.removeprefix("canhazgpu.")
    return DATA.get(name) or DATA[name.partition(".")[0]]


def _schemas() -> dict[str, Any]:
    _, found = msgspec.json.schema_components(
        dict.fromkeys(DATA.values()), ref_template="#/components/schemas/{name}"
    )
    for schema in found.values():
        if "description" in schema:
            schema["description"] = inspect.cleandoc(schema["description"])
    kept = examples()
    for name, schema in found.items():
        for field, description in DESCRIPTIONS.get(name, {}).items():
            _describe(schema["properties"][field], description, VALUES.get(name, {}).get(field, ()))
        schema["examples"] = [
            one for kind, each in kept.items() for one in _parts(found, data_of(kind).__name__, each, name)
        ][:1]
    return found


def _describe(field: dict[str, Any], description: str, values: tuple[str, ...]) -> None:
    """Add what a field means, and its values. They belong to the alternative that is a text."""
    field["description"] = description
    if values:
        text = next(one for one in field.get("anyOf", (field,)) if one.get("type") == "string")
        text["enum"] = list(values)


def _parts(schemas: dict[str, Any], schema: str, value: Any, wanted: str) -> Iterator[Any]:
    """Yield the parts of a value of one schema that are of the schema `wanted`."""
    if schema == wanted:
        yield value
    for field, about in schemas[schema]["properties"].items():
        for one in about.get("anyOf", (about,)):
            inner = one.get("items", one).get("$ref", "").rpartition("/")[2]
            values = value.get(field) if "items" in one else [value.get(field)]
            for each in (values or ()) if inner else ():
                if each is not None:
                    yield from _parts(schemas, inner, each, wanted)


def examples() -> dict[str, dict[str, Any]]:
    """Return the data of one event of each type, as a service has published it."""
    text = (files("canhazgpu.events.contract") / "examples.json").read_bytes()
    return dict(msgspec.json.decode(text))


def _message(event_type: str) -> dict[str, Any]:
    return {
        "name": event_type,
        "contentType": CONTENT_TYPE,
        "bindings": {"redis": {}},
        "headers": {
            "type": "object",
            "required": ["id", "source", "specversion", "type", "subject", "time", "datacontenttype"],
            "properties": {
                "id": {"type": "string", "description": "Grows within a source."},
                "source": {"type": "string", "examples": ["//gpu-host-1/canhazgpu"]},
                "specversion": {"const": SPECVERSION},
                "type": {"const": event_type},
                "subject": {"type": "string", "examples": ["gpu/2"]},
                "time": {"type": "string", "format": "date-time"},
                "datacontenttype": {"const": CONTENT_TYPE},
            },
        },
        "payload": {"$ref": f"#/components/schemas/{data_of(event_type).__name__}"},
        "examples": [{"payload": examples()[event_type]}],
    }


def _channel(address: str, about: str, *prefixes: str) -> dict[str, Any]:
    names = [name for name in TYPES if name.startswith(prefixes)]
    return {
        "address": address,
        "description": about,
        "parameters": {"HOST": {"description": "The host's name, as in the setting `host`."}},
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
    }


def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI document of the public streams."""
    keys = Keys("HOST")
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "canhazgpu events",
            "version": "1.0.0",
            "description": "Redis streams; the fields of an entry are those of a CloudEvents 1.0 envelope, "
            "with `data` as JSON. `HOST` stands for the host's name; the braces belong to the key.",
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": {
            "events": _channel(keys.events, "All events, about the last 100000.", "canhazgpu."),
            "violations": _channel(
                keys.violations,
                "Violation events, for 400 days.",
                "canhazgpu.violation.",
                "canhazgpu.process.",
            ),
            "ledger": _channel(
                keys.ledger, "Ended reservations, for 400 days.", "canhazgpu.reservation.released"
            ),
            "notices": _channel(
                keys.notices, "Notices to be sent, and to whom, for 400 days.", "canhazgpu.notice.created"
            ),
            "deliveries": _channel(
                keys.deliveries, "Every attempt to deliver a notice.", "canhazgpu.notice.attempted"
            ),
        },
        "operations": {
            name: {"action": "receive", "channel": {"$ref": f"#/channels/{name}"}}
            for name in ("events", "violations", "ledger", "notices", "deliveries")
        },
        "components": {"messages": {name: _message(name) for name in TYPES}, "schemas": _schemas()},
    }


def document() -> str:
    """Return the document as committed in docs/."""
    return msgspec.json.format(msgspec.json.encode(asyncapi()), indent=2).decode() + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
