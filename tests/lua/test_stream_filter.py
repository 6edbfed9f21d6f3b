"""The script that reads one page of a stream and returns the matching entries."""

from typing import Any

import pytest
from support.event_history import NOW, EventHistory

from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.storage.stream_filter import FILTER, filter_stream

pytestmark = pytest.mark.anyio


async def _entries(store: Store, past: EventHistory, count: int) -> str:
    for number in range(count):
        kind = "canhazgpu.violation.opened" if number % 2 else "canhazgpu.notice.created"
        past.put([store.keys.events], NOW + number, kind, f"x/{number}", {"number": f"n{number}."})
    await past.flush()
    return store.keys.events


async def test_only_what_is_asked_for_comes(store: Store, past: EventHistory) -> None:
    """Entries match by the start of their type and by words in their data."""
    stream = await _entries(store, past, 6)

    async def found(**asked: Any) -> list[str]:
        return [
            row.subject async for page, _ in filter_stream(store, stream, (0, None), **asked) for row in page
        ]

    assert await found() == [f"x/{number}" for number in range(6)]
    assert await found(kind="canhazgpu.violation.") == ["x/1", "x/3", "x/5"]
    assert await found(words=["n2.", "n3."]) == ["x/2", "x/3"]
    assert await found(kind="canhazgpu.notice.", words=["n2.", "n3."]) == ["x/2"]
    assert await found(words=["n."]) == [], "a word is no pattern"


async def test_a_page_says_where_the_next_one_begins(store: Store, past: EventHistory) -> None:
    """Each page says where the next one starts; there is none after the last entry."""
    stream = await _entries(store, past, 5)
    begin, pages = "-", []
    while begin:
        last, lines = await store.run(FILTER, [stream], [begin, "+", 2, "canhazgpu.violation.", "[]"])
        begin = f"({last.decode()}" if last else ""
        pages.append(len([line for line in lines.split(b"\n") if line]))
    assert pages == [1, 1, 0]


async def test_a_span_has_an_end(store: Store, past: EventHistory) -> None:
    """The end of a period is inclusive, in milliseconds."""
    stream = await _entries(store, past, 6)
    pages = [page async for page in filter_stream(store, stream, (NOW + 1, NOW + 3))]
    assert [(row.ms, row.kind) for row in pages[0][0]] == [
        (NOW + 1, "canhazgpu.violation.opened"),
        (NOW + 2, "canhazgpu.notice.created"),
        (NOW + 3, "canhazgpu.violation.opened"),
    ]
    assert [end for _, end in pages] == [None]


async def test_a_stream_that_is_not_there_is_empty(store: Store) -> None:
    """A missing stream is one empty page."""
    assert [page async for page in filter_stream(store, store.keys.events, (0, None))] == [([], None)]
