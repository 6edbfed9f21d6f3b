"""Every event that the tests' services publish is as docs/asyncapi.json says.

With RECORDED_EVENTS=FILE in their environment, the tests record these events, each as a line. From them,
events/contract/examples.json has one of each type, with the names of test users replaced.
"""

import os
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
from redis import Redis
from redis.exceptions import RedisError

from canhazgpu.events.envelope import Event, Undecodable, decode
from canhazgpu.events.schemas import asyncapi

STREAMS = ("events", "deliveries")  # Every event is on one of them.
MOST = 500  # Events of a service that are read.
NEWER = "later_version"  # A field by which a test marks an event that it has published itself.


@cache
def _schemas() -> tuple[dict[str, Any], dict[str, Any]]:
    document = asyncapi()
    schemas = {"components": {"schemas": document["components"]["schemas"]}}
    payloads = {name: one["payload"]["$ref"] for name, one in document["components"]["messages"].items()}
    return payloads, schemas


@cache
def _validator(reference: str) -> Any:
    return jsonschema_rs.validator_for({**_schemas()[1], "$ref": reference})


def faults(event_type: str, data: dict[str, Any]) -> list[str]:
    """Return what the schema of an event's data does not allow."""
    return [
        f"{event_type}: {error.message} at {error.instance_path}"
        for error in _validator(_schemas()[0][event_type]).iter_errors(data)
    ]


def wrong_events(socket: Path) -> list[str]:
    """Return what is wrong in the last events of a service, nothing if its Redis does not answer."""
    try:
        with Redis(unix_socket_path=str(socket), socket_timeout=2) as redis:
            keys = [key for name in STREAMS for key in redis.scan_iter(f"canhazgpu:*:{name}")]
            found = [entry for key in keys for entry in redis.xrevrange(key, count=MOST)]
    except RedisError:
        return []
    wrong = []
    for _, fields in found:
        try:
            event = decode(fields)
        except Undecodable:
            continue  # A test has put it there.
        if event.type in _schemas()[0] and NEWER not in event.data:
            wrong += faults(event.type, event.data)
            _record(event)
    return wrong


def _record(event: Event) -> None:
    if path := os.environ.get("RECORDED_EVENTS"):
        with Path(path).open("ab") as file:
            file.write(msgspec.json.encode([event.type, event.data]) + b"\n")
