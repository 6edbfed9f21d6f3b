"""Versions of the page's content, and what changed between them, as server-sent events.

Every browser gets the same bytes. A browser that is behind by more than KEPT versions gets the whole content,
so a slow one costs no memory.
"""

import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator

import anyio
import msgspec

from canhazgpu.cli.web.markup import Element, changes

KEPT = 32
BEAT = 5.0  # Seconds; without an event for three of them, the page says that it is not live.
LONGEST_NUMBER = 19
LEAST_GAP = 0.2  # Seconds between two events for one browser.


class Live:
    """The current content, and those who watch it."""

    def __init__(self, content: Element) -> None:
        """Begin with version 0 of a new epoch: a browser that knew another process starts again."""
        self.content = content
        self.watchers = 0
        self._epoch, self._number = secrets.token_hex(4), 0
        self._changes: deque[list[list[object]]] = deque(maxlen=KEPT)
        self._changed = anyio.Event()
        self._closed = False

    @property
    def version(self) -> str:
        """The version of the content."""
        return f"{self._epoch}-{self._number}"

    def update(self, content: Element) -> None:
        """Replace the content; those who watch get what has changed."""
        found = changes(self.content, content)
        if not found:
            return
        self.content = content
        self._number += 1
        self._changes.append(found)
        self._wake()

    def close(self) -> None:
        """End the streams of all who watch."""
        self._closed = True
        self._wake()

    async def events(self, version: str) -> AsyncGenerator[bytes]:
        """Yield an event for each change after `version`, and one every BEAT seconds."""
        known = self._known(version)
        self.watchers += 1
        try:
            yield b"retry: 1000\n\n" + self._beat()
            while not self._closed:
                changed = self._changed
                if known != self._number:
                    event, known = self._since(known), self._number
                    yield event
                    await anyio.sleep(LEAST_GAP)
                    continue
                with anyio.move_on_after(BEAT):
                    await changed.wait()
                    continue
                yield self._beat()
        finally:
            self.watchers -= 1

    def _known(self, version: str) -> int | None:
        epoch, _, number = version.partition("-")
        is_number = number.isascii() and number.isdigit() and len(number) < LONGEST_NUMBER
        if epoch != self._epoch or not is_number:
            return None
        return int(number) if int(number) <= self._number else None

    def _since(self, known: int | None) -> bytes:
        missed = self._number - known if known is not None else KEPT + 1
        found: list[list[object]] = [["set", self.content.id, self.content]]
        if missed <= len(self._changes):
            found = [one for part in list(self._changes)[-missed:] for one in part]
        return b"id: %s\ndata: %s\n\n" % (self.version.encode(), msgspec.json.encode(found))

    def _beat(self) -> bytes:
        return b"event: beat\ndata: %d\n\n" % round(time.time() * 1000)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
