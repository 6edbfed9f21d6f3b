"""Tokens that prove that a container was started by the holder of a reservation.

Docker starts containers for anybody, and does not say who asked. So the service gives each run a token, which
only its user can pass on. A token is a message authentication code: nothing is stored for it, and it is worth
nothing once its reservation has ended.
"""

import base64
import hmac
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import structlog

from canhazgpu.config.settings import Settings
from canhazgpu.events.reservations import Record

KEY_FILE = "container-token-key"
KEY_BYTES = 32
OWNER_ONLY = 0o600
_TOKEN = re.compile(r"(r[0-9-]{1,40})\.([0-9]{1,6}(?:-[0-9]{1,6}){0,255})\.([\w-]{43})", re.ASCII)


class Proven(msgspec.Struct, frozen=True):
    """What a token proves: a live reservation, and which of its GPUs the run was given."""

    record: Record
    gpus: frozenset[int]


class HolderTokens:
    """Issues tokens and verifies them with a key that only the service can read."""

    def __init__(self, key: bytes) -> None:
        """Use this key."""
        self._key = key

    def issue(self, record: Record, gpus: Sequence[int]) -> str:
        """Return the token for a run that uses these GPUs of a reservation."""
        chosen = "-".join(str(gpu) for gpu in sorted(gpus))
        return f"{record.id}.{chosen}.{self._code(record, chosen)}"

    def verify(self, token: str, records: Iterable[Record]) -> Proven | None:
        """Return what a token proves; None if it is not genuine, or its reservation has ended."""
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None
        name, chosen, code = match.groups()
        record = next((one for one in records if one.id == name and one.ended_ms is None), None)
        if record is None or not hmac.compare_digest(code, self._code(record, chosen)):
            return None
        return Proven(record, frozenset(map(int, chosen.split("-"))) & frozenset(record.gpus))

    def _code(self, record: Record, chosen: str) -> str:
        """Return the code. The time is part of it, because a wiped Redis gives ids out again."""
        text = f"{record.id} {record.uid} {record.login_uid} {record.started_ms} {chosen}"
        digest = hmac.digest(self._key, text.encode(), "sha256")
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def open_tokens(settings: Settings) -> HolderTokens | None:
    """Return the tokens of this host, or None if containers are not checked, or the key cannot be stored."""
    if settings.containers.mode == "off":
        return None
    path = Path(settings.state_dir, KEY_FILE)
    try:
        return HolderTokens(_key(path))
    except OSError as error:
        reason = f"{path}: {error.strerror}: no container can be proven to be a holder's"
        structlog.get_logger().warning("limited", reason=reason, remedy="correct this, then restart")
        return None


def _key(path: Path) -> bytes:
    """Return the key, which is made at the first start. Raises OSError."""
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        key = b""
    if len(key) != KEY_BYTES:
        key = os.urandom(KEY_BYTES)
        new = path.with_name(f".{KEY_FILE}.new")
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, OWNER_ONLY)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key)
        new.replace(path)
    return key
