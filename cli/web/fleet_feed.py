"""Reads the hosts of the fleet: again and again while somebody watches, else only when somebody asks."""

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import anyio
from anyio.abc import TaskStatus

from canhazgpu.cli.web.feed import FRESH, WATCHED, Service, reason_of
from canhazgpu.cli.web.live import Live
from canhazgpu.cli.web.markup import Element, el
from canhazgpu.cli.web.pages.hosts import host_page, hosts_page
from canhazgpu.client.connection import Refused, Unreachable

SHARE = 5  # A pause lasts at least so many times as long as reading: of a large fleet, that takes seconds.
MOST_FEEDS = 64  # Hosts whose pages are live at a time.
FORGET = 60.0  # Seconds after which a feed that nobody watches is removed.
NOT_YOURS = frozenset({"not-a-fleet-reader", "no-fleet"})  # What was known is then not shown any more.

Show = Callable[[list[list[dict[str, Any]]], str, str], Element]


class FleetFeed:
    """Keeps `live` current: what `show` makes of the hosts' lines, of why they are old, and of their time."""

    def __init__(self, service: Service, paths: Sequence[str], root: str, show: Show) -> None:
        """Read from `paths`; `root` is the id of the content."""
        self._service, self._paths, self._root, self._show = service, paths, root, show
        self._rows: list[list[dict[str, Any]]] | None = None
        self._at = ""
        self._reading = anyio.Lock()
        self.read_at = float("-inf")
        self.live = Live(el("div", id=root))

    async def refresh(self, age: float = FRESH) -> None:
        """Read, unless that was less than `age` s ago. Raises Unreachable and Refused if nothing is known."""
        async with self._reading:
            if time.monotonic() - self.read_at < age:
                return
            trouble = ""
            try:
                found = [await self._service.partial(path) for path in self._paths]
                self._rows, self._at = [rows for rows, _ in found], _now()
                trouble = next((words for _, words in found if words), "")
            except (Unreachable, Refused) as error:
                if self._rows is None or (isinstance(error, Refused) and error.kind in NOT_YOURS):
                    self._rows = None
                    self.live.update(el("div", el("p", f"{error}.", class_="notice"), id=self._root))
                    raise
                trouble = reason_of(error)
            self.read_at = time.monotonic()
            self.live.update(self._show(self._rows, trouble, self._at))


class FleetFeeds:
    """The feeds of all hosts together, and of those that somebody looks at."""

    def __init__(self, service: Service) -> None:
        """Read from `service` when somebody asks."""
        self._service = service
        self._feeds: dict[str, FleetFeed] = {}
        self._asked: dict[str, float] = {}
        self._wanted = anyio.Event()

    @property
    def watchers(self) -> int:
        """How many browsers watch."""
        return sum(feed.live.watchers for feed in self._feeds.values())

    async def of(self, host: str = "") -> FleetFeed:
        """Return the feed of all hosts or of one, current. Raises Unreachable and Refused."""
        feed = self._feeds.get(host) or self._made(host)
        self._asked[host] = time.monotonic()
        await feed.refresh()
        if host in self._feeds or self._has_room():
            self._feeds[host] = feed
        return feed

    def is_live(self, host: str) -> bool:
        """Whether the page of a host is kept current."""
        return host in self._feeds

    async def events(self, feed: FleetFeed, version: str) -> AsyncGenerator[bytes]:
        """Yield the events of a feed; it is read for as long as somebody wants them."""
        async with aclosing(feed.live.events(version)) as events:
            async for event in events:
                self._wanted.set()
                yield event

    def close(self) -> None:
        """End the streams of all who watch."""
        for feed in self._feeds.values():
            feed.live.close()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Read what is watched, until cancelled."""
        task_status.started()
        while True:
            watched = [feed for feed in self._feeds.values() if feed.live.watchers]
            if not watched:
                await self._wanted.wait()
                self._wanted = anyio.Event()
                continue
            began = time.monotonic()
            async with anyio.create_task_group() as tasks:
                for feed in watched:
                    tasks.start_soon(_read, feed)
            await anyio.sleep(max(WATCHED, SHARE * (time.monotonic() - began)))

    def _made(self, host: str) -> FleetFeed:
        if not host:
            paths = ("/v1/fleet/status", "/v1/fleet/queue")
            return FleetFeed(self._service, paths, "hosts", _all_hosts)
        asked = f"?host={quote(host, '')}"
        paths = (f"/v1/fleet/status{asked}", f"/v1/fleet/queue{asked}")
        return FleetFeed(self._service, paths, "host", _one_host)

    def _has_room(self) -> bool:
        now = time.monotonic()
        for host, feed in tuple(self._feeds.items()):
            if not feed.live.watchers and now - self._asked[host] > FORGET:
                del self._feeds[host], self._asked[host]
        return len(self._feeds) < MOST_FEEDS


def _all_hosts(answers: list[list[dict[str, Any]]], trouble: str, at: str) -> Element:
    hosts, queues = answers
    return hosts_page(hosts, queues, trouble, at)


def _one_host(answers: list[list[dict[str, Any]]], trouble: str, _: str) -> Element:
    hosts, queues = answers
    return host_page(hosts, queues, trouble)


async def _read(feed: FleetFeed) -> None:
    try:
        await feed.refresh()
    except (Unreachable, Refused):
        return  # Those who watch have been told.


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
