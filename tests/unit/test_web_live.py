"""Versions of the page's content: who is behind gets what is missing, or everything."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
import msgspec
import pytest

from canhazgpu.cli.web import live
from canhazgpu.cli.web.live import KEPT, Live
from canhazgpu.cli.web.markup import Element, el

pytestmark = pytest.mark.anyio


def _content(number: int) -> Element:
    return el("main", el("p", str(number), id="a"), el("p", "same", id="b"), id="main")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait between two events."""
    monkeypatch.setattr(live, "LEAST_GAP", 0)


async def _next(events: AsyncIterator[bytes]) -> tuple[str, Any]:
    """Return the version and the changes of the next event that is not a beat."""
    with anyio.fail_after(60):
        async for event in events:
            if event.startswith(b"id: "):
                head, _, data = event.decode().partition("\ndata: ")
                return head.removeprefix("id: "), msgspec.json.decode(data)
    raise AssertionError


async def test_a_browser_gets_what_changed_since_its_version() -> None:
    """Changes between its version and the current one arrive in one event, in their order."""
    page = Live(_content(0))
    known = page.version
    page.update(_content(1))
    page.update(_content(2))
    version, found = await _next(page.events(known))
    assert version == page.version
    assert [(what, key, part[2]) for what, key, part in found] == [("set", "a", ["1"]), ("set", "a", ["2"])]


@pytest.mark.parametrize("known", ["", "other-0", "x", "-", "other-99999999999999999999"])
async def test_an_unknown_version_gets_everything(known: str) -> None:
    """A browser that knew another process, or nothing, gets the whole content."""
    page = Live(_content(0))
    _, found = await _next(page.events(known))
    assert [(what, key) for what, key, _ in found] == [("set", "main")]


async def test_who_is_far_behind_gets_everything() -> None:
    """More than KEPT versions are not kept: the whole content is sent instead."""
    page = Live(_content(0))
    known = page.version
    for number in range(1, KEPT + 2):
        page.update(_content(number))
    _, found = await _next(page.events(known))
    assert [(what, key) for what, key, _ in found] == [("set", "main")]


async def test_the_same_content_is_no_new_version() -> None:
    """Nothing is sent if nothing changed."""
    page = Live(_content(0))
    known = page.version
    page.update(_content(0))
    assert page.version == known


async def test_a_quiet_page_still_gives_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a change, an event says that the connection is alive."""
    monkeypatch.setattr(live, "BEAT", 0.01)
    page = Live(_content(0))
    events = page.events(page.version)
    beats = [await anext(events) for _ in range(3)]
    assert all(b"event: beat" in beat for beat in beats)


async def test_streams_end_when_the_page_closes() -> None:
    """Nobody watches any more after the close, so that the process can end."""
    page = Live(_content(0))
    events = page.events(page.version)
    await anext(events)
    assert page.watchers == 1
    page.close()
    with anyio.fail_after(60):
        assert [event async for event in events] == []
    assert page.watchers == 0
