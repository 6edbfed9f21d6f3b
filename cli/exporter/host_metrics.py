"""The metrics of this host: counters of what happens, and figures of the moment at which somebody asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, disable_created_metrics

from canhazgpu.cli.exporter.collector import Beginning, HostCollector
from canhazgpu.cli.exporter.event_counts import EventCounts
from canhazgpu.cli.exporter.event_feed import EventFeed

if TYPE_CHECKING:
    from canhazgpu.client.connection import Client

PATIENCE = 5.0  # Seconds for an answer of the service; Prometheus waits for 10.
STREAMS = ("events", "deliveries")


class HostMetrics:
    """A registry. The counters begin when it is started, and each stream is followed by a thread."""

    def __init__(self, program: str) -> None:
        """Ask nothing yet. `program` is named in what is reported."""
        self._program = program
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._beginning = Beginning()
        self.registry.register(self._beginning)
        self._counts = EventCounts(self.registry)
        self._feeds: list[EventFeed] = []

    def start(self, client: Client, most_users: int) -> None:
        """Follow the streams, and ask `client`. At most `most_users` users have figures of their own."""
        for stream in STREAMS:
            feed = EventFeed(client, stream, self._counts.count)
            feed.find_place()
            feed.start()
            self._feeds.append(feed)
        host = HostCollector(client, self._counts, most_users, self._program)
        self.registry.register(host)
        self._beginning.host = host

    @property
    def are_counted(self) -> bool:
        """Whether events are counted: if a thread has crashed, its counters stand still."""
        return all(feed.is_alive() for feed in self._feeds)
