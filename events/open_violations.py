"""Reads the open violations of a host, which Redis stores in one hash."""

from typing import Any

import msgspec

from canhazgpu.events.violations import Violation


def open_violations(fields: dict[bytes, bytes]) -> list[Violation]:
    """Return the violations in the hash of open ones, ordered by GPU and user."""
    found = []
    for field, text in fields.items():
        gpu, _, key = field.decode().partition("/")
        record = msgspec.json.decode(text)
        data: dict[str, Any] = {
            **msgspec.json.decode(record["body"]),
            "violation": record["id"],
            "kind": record["kind"],
            "gpu": int(gpu),
            "key": key,
            "since": record["since"],
            "memory_mb": record["memory_mb"],
            "peak_memory_mb": record["peak_mb"],
            "holder": record.get("holder"),
        }
        found.append(msgspec.convert(data, Violation))
    return sorted(found, key=lambda violation: (violation.gpu, violation.user))
