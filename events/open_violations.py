"""Reads the open violations of a host, which Redis stores in one hash."""

from typing import Any

import msgspec

from canhazgpu.events.unreadable import UNREADABLE, log_unreadable
from canhazgpu.events.violations import Violation


def open_violations(fields: dict[bytes, bytes]) -> list[Violation]:
    """Return the violations in the hash of open ones, ordered by GPU and user.

    Those that cannot be read are logged and left out: the next scan opens them anew.
    """
    found = []
    for field, text in fields.items():
        try:
            found.append(_violation(field.decode(), text))
        except UNREADABLE as error:
            log_unreadable("Violation", field.decode(errors="backslashreplace"), error, text)
    return sorted(found, key=lambda violation: (violation.gpu, violation.user))


def _violation(field: str, text: bytes) -> Violation:
    gpu, _, key = field.partition("/")
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
    return msgspec.convert(data, Violation)
