"""What the fleet's Redis has of a host. Values that others read are strings, of which a part can be read."""

import zlib
from typing import Annotated

import msgspec

STATE = "state"  # Fields of the hash, which only the host itself reads.
PROBE = "probe"
MISSING = "missing:"  # Before the name of a stream.
RESTARTED = "restarted:"
GRACE = 3  # A host that has not copied its state for so many intervals counts as away.
MOST_BYTES = 2**22  # Of one value. What is larger is not read.
MOST_GPUS = 256
MOST_ROWS = 2_000  # Reservations, requests in the queue, or open violations of one host.
MOST_SILENCES = 500
MOST_FIELDS = 64
MOST_ENDED = 150  # The newest ended reservations of a host.
LOST_MS = 15 * 60_000  # Of a host that has been silent for so long, nothing counts as held any more.
MOST_DAYS = 32  # Of which the hours are copied.
MOST_HOURS_BYTES = 2**22  # Of their sums, before they are compressed.

Fields = Annotated[dict[bytes, bytes], msgspec.Meta(max_length=MOST_FIELDS)]
Rows = Annotated[dict[bytes, bytes], msgspec.Meta(max_length=MOST_ROWS)]
Silences = Annotated[dict[bytes, bytes], msgspec.Meta(max_length=MOST_SILENCES)]
Gpus = Annotated[dict[int, Fields], msgspec.Meta(max_length=MOST_GPUS)]
Ended = Annotated[list[tuple[str, bytes]], msgspec.Meta(max_length=MOST_ENDED)]
Days = Annotated[dict[str, bytes], msgspec.Meta(max_length=3 * MOST_DAYS)]
HeldCount = Annotated[int, msgspec.Meta(ge=0, le=MOST_GPUS)]
HeldCounts = Annotated[dict[str, HeldCount], msgspec.Meta(max_length=MOST_GPUS)]
Counts = Annotated[dict[str, int], msgspec.Meta(max_length=MOST_FIELDS)]


class CopyState(msgspec.Struct, frozen=True, kw_only=True):
    """When the state was copied: `seen_ms` on the clock of the fleet's Redis, `at_ms` on the host's.

    `interval_ms` is the longest time until the next copy, and `scan_interval_ms` that between two scans.
    `machine` tells two hosts with the same name apart; `presume_holder` is the host's setting.
    """

    seen_ms: int
    at_ms: int
    interval_ms: int
    scan_interval_ms: int
    presume_holder: bool = True
    machine: str = ""

    @property
    def patience_ms(self) -> int:
        """The age of the copy from which on the host counts as away."""
        return GRACE * self.interval_ms


class CopiedState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a host: its hashes as they are in its own Redis, those of the GPUs by index, in order.

    `missing` are the entries by stream that were removed before they were copied, and `restarted` how often
    a stream has begun again.
    """

    copy: CopyState
    scan: Fields
    open: Rows
    reservations: Rows
    queue: Rows
    silences: Silences
    gpus: Gpus
    missing: Counts = {}
    restarted: Counts = {}


def encode_state(state: CopiedState) -> bytes:
    """Return the value of the key."""
    return msgspec.msgpack.encode(state)


def decode_state(value: bytes) -> CopiedState:
    """Return the state in a value. Raises ValueError, also if anything in it is too much."""
    return msgspec.msgpack.decode(value, type=CopiedState)


class HeldGpus(msgspec.Struct, frozen=True, kw_only=True):
    """How many GPUs each user of a host holds, by name. `seen_ms` is on the clock of the fleet's Redis."""

    seen_ms: int
    gpus: HeldCounts


def encode_held(held: HeldGpus) -> bytes:
    """Return the value of the key."""
    return msgspec.msgpack.encode(held)


def decode_held(value: bytes) -> HeldGpus:
    """Return the counts in a value. Raises ValueError, also if they are more GPUs than a host can have."""
    held = msgspec.msgpack.decode(value, type=HeldGpus)
    if sum(held.gpus.values()) > MOST_GPUS:
        raise ValueError(f"it claims more than {MOST_GPUS} GPUs")
    return held


def encode_ended(rows: list[tuple[str, bytes]]) -> bytes:
    """Return the value of the key with the time and the data of each event, oldest first."""
    return msgspec.msgpack.encode(rows)


def decode_ended(value: bytes) -> list[tuple[str, bytes]]:
    """Return the events in a value. Raises ValueError, also if there are too many."""
    return msgspec.msgpack.decode(value, type=Ended)


def encode_hours(fields: dict[str, bytes]) -> bytes:
    """Return the value of the key with fields of the log of use: names, sums and waits of days."""
    return zlib.compress(msgspec.msgpack.encode(fields))


def decode_hours(value: bytes) -> dict[str, bytes]:
    """Return the fields in a value. Raises ValueError, also if they are too long."""
    inflating = zlib.decompressobj()
    try:
        whole = inflating.decompress(value, MOST_HOURS_BYTES)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if inflating.unconsumed_tail:
        raise ValueError(f"its hours are larger than {MOST_HOURS_BYTES >> 20} MiB")
    return msgspec.msgpack.decode(whole, type=Days)
