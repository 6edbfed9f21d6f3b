"""A stream read page by page, where only what is asked for leaves Redis: little is in memory at a time."""

from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

import msgspec

from canhazgpu.events.store import Script, Store

SIFT = Script("canhazgpu.service", "sift")
PAGE = 500

T = TypeVar("T")


class Row(msgspec.Struct, frozen=True, array_like=True):
    """One event in a stream: the id of its entry, its type, and what else matters of it."""

    entry: str
    kind: str
    subject: str
    time: str
    data: msgspec.Raw

    @property
    def ms(self) -> int:
        """When it was appended, in ms."""
        return int(self.entry.partition("-")[0])

    def data_as(self, kind: type[T]) -> T | None:
        """Return its data; None where that is something else: its consumer buries it."""
        try:
            return msgspec.json.decode(self.data, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None


async def sift(
    store: Store,
    stream: str,
    span: tuple[int | str, int | None],
    *,
    kind: str = "",
    words: Sequence[str] = (),
) -> AsyncIterator[tuple[list[Row], int | None]]:
    """Yield the events of a span, a page of the stream at a time, and how far it is, in ms; None: at the end.

    The span begins at a moment in ms or an entry, and ends at a moment in ms, or never. Only events whose
    type begins with `kind` and whose data has one of `words` in it, where there are any. Raises StoreDown.
    """
    start, end_ms = span
    begin = str(max(0, start)) if isinstance(start, int) else start
    end = "+" if end_ms is None else str(end_ms)
    asked = msgspec.json.encode(words)
    while begin:
        last, lines = await store.run(SIFT, [stream], [begin, end, PAGE, kind, asked])
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
