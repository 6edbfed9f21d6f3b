"""Reads a stream page by page, and filters the entries in Redis, so that little memory is needed."""

from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

import msgspec

from canhazgpu.events.redis_client.scripts import Script
from canhazgpu.events.redis_client.store import Store

FILTER = Script("canhazgpu.service.storage", "filter")
PAGE = 500

T = TypeVar("T")


class Row(msgspec.Struct, frozen=True, array_like=True):
    """One event in a stream: the id of its entry, its type, and the other relevant fields."""

    entry: str
    kind: str
    subject: str
    time: str
    data: msgspec.Raw

    @property
    def ms(self) -> int:
        """The time at which it was appended, in ms."""
        return int(self.entry.partition("-")[0])

    def data_as(self, kind: type[T]) -> T | None:
        """Return its data, or None if it is not valid; its consumer moves it to the dead letters."""
        try:
            return msgspec.json.decode(self.data, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None


async def filter_stream(
    store: Store,
    stream: str,
    span: tuple[int | str, int | None],
    *,
    kind: str = "",
    words: Sequence[str] = (),
) -> AsyncIterator[tuple[list[Row], int | None]]:
    """Yield the events of a period, one page of the stream at a time, and the position in ms (None: the end).

    The period starts at a time in ms or an entry, and ends at a time in ms, or never. Only events whose type
    starts with `kind`, and whose data contains one of `words` (if any), are returned. Raises StoreDown.
    """
    start, end_ms = span
    begin = str(max(0, start)) if isinstance(start, int) else start
    end = "+" if end_ms is None else str(end_ms)
    asked = msgspec.json.encode(words)
    while begin:
        last, lines = await store.run(FILTER, [stream], [begin, end, PAGE, kind, asked])
        begin = f"({last.decode()}" if last else ""
        yield list(_rows(lines)), int(last.partition(b"-")[0]) if last else None


def _rows(lines: bytes) -> list[Row]:
    found = []
    for line in lines.split(b"\n"):
        try:
            found.append(_decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
    return found


_decode = msgspec.json.Decoder(Row).decode
