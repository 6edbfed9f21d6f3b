"""Asks the service when somebody asks for the metrics."""

from __future__ import annotations

import importlib.metadata
import sys
import time
from threading import Lock
from typing import TYPE_CHECKING

from prometheus_client.registry import Collector

from canhazgpu.cli.exporter.event_counts import EventCounts
from canhazgpu.cli.exporter.figures import figures, gauge, one
from canhazgpu.client.connection import Client, Refused, Unreachable
from canhazgpu.events.sanitize import LONGEST_WORDS, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

PATH = "/v1/metrics"
RECENT = 0.2  # Seconds for which an answer is used again: many readers cost the service no more than a few.


class HostCollector(Collector):
    """The figures of this moment. While the service is away, there are none, and `canhazgpu_up` is 0."""

    def __init__(self, client: Client, counts: EventCounts, most_users: int, program: str) -> None:
        """Ask nothing yet. `program` is named in what is reported."""
        self._client, self._counts, self._most_users = client, counts, most_users
        self._program = program
        self._version = importlib.metadata.version("canhazgpu")  # Once: it reads and parses a file.
        self._lock = Lock()
        self._found: tuple[Metric, ...] = ()
        self._asked = -RECENT
        self._trouble = ""

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        with self._lock:
            if time.monotonic() - self._asked >= RECENT:
                self._found = tuple(self._collected())
                self._asked = time.monotonic()
            found = self._found
        yield from found

    def describe(self) -> tuple[Metric, ...]:
        """Return nothing: the service need not answer when this is registered."""
        return ()

    def _collected(self) -> Iterator[Metric]:
        build = gauge("build_info", "The version of the exporter; always 1.", ("version",))
        build.add_metric((self._version,), 1)
        yield build
        began = time.monotonic()
        try:
            answer = self._client.get(PATH)
        except (Unreachable, Refused) as trouble:
            self._say(f"the service is away: {trouble}")
            yield one("up", "Whether the service answers.", 0)
            return
        self._say("")
        for row in (answer["streams"] or {"groups": ()})["groups"]:
            if row["stream"] == "notices":
                self._counts.know_channel(printable(row["group"]))
        yield one("up", "Whether the service answers.", 1)
        yield one("exporter_answer_seconds", "How long the service took to answer.", time.monotonic() - began)
        yield from figures(answer, self._most_users)

    def _say(self, trouble: str) -> None:
        """Report what is wrong once, and once that it is over."""
        if trouble != self._trouble:
            text = printable(" ".join((trouble or "the service answers again").split()), 2 * LONGEST_WORDS)
            sys.stderr.write(f"{self._program}: {text}\n")
            sys.stderr.flush()
            self._trouble = trouble
