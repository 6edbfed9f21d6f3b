"""Asks the service when somebody asks for the metrics."""

from __future__ import annotations

import importlib.metadata
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING

from prometheus_client.registry import Collector

from canhazgpu.cli.exporter.event_counts import EventCounts
from canhazgpu.cli.exporter.figures import figures, gauge, one
from canhazgpu.client.connection import Client, Refused, Unreachable
from canhazgpu.events.sanitize import LONGEST_WORDS, printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from prometheus_client.core import Metric

PATH = "/v1/metrics"
RECENT = 0.2  # Seconds for which an answer is used again: many readers cost the service no more than a few.


class Beginning(Collector):
    """Begins to ask when a scrape begins. It is registered first, so the service answers during the rest."""

    def __init__(self) -> None:
        """Begin nothing before `host` is set."""
        self.host: HostCollector | None = None

    def collect(self) -> tuple[Metric, ...]:
        """Return nothing."""
        if self.host:
            self.host.begin()
        return ()

    def describe(self) -> tuple[Metric, ...]:
        """Return nothing."""
        return ()


class HostCollector(Collector):
    """The figures of this moment. While the service is away, there are none, and `canhazgpu_up` is 0."""

    def __init__(self, client: Client, counts: EventCounts, most_users: int, program: str) -> None:
        """Ask nothing yet. `program` is named in what is reported."""
        self._client, self._counts, self._most_users = client, counts, most_users
        self._program = program
        self._version = importlib.metadata.version("canhazgpu")  # Once: it reads and parses a file.
        self._lock, self._begins = Lock(), Lock()
        self._threads = ThreadPoolExecutor(1, "metrics")
        self._answer: Future[tuple[dict[str, Any], float]] | None = None
        self._found: tuple[Metric, ...] = ()
        self._asked = -RECENT
        self._trouble = ""

    def begin(self) -> Future[tuple[dict[str, Any], float]] | None:
        """Ask, unless that was done just now; return what gets the answer."""
        with self._begins:
            if self._answer is None and time.monotonic() - self._asked >= RECENT:
                self._answer = self._threads.submit(self._ask)
            return self._answer

    def _ask(self) -> tuple[dict[str, Any], float]:
        """Return the answer of the service, and how many seconds it took."""
        began = time.monotonic()
        return self._client.get(PATH), time.monotonic() - began

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        with self._lock:
            if answer := self.begin():
                try:
                    self._found = tuple(self._collected(answer))
                    self._asked = time.monotonic()
                finally:
                    self._answer = None
            found = self._found
        yield from found

    def describe(self) -> tuple[Metric, ...]:
        """Return nothing: the service need not answer when this is registered."""
        return ()

    def _collected(self, asked: Future[tuple[dict[str, Any], float]]) -> Iterator[Metric]:
        build = gauge("build_info", "The version of the exporter; always 1.", ("version",))
        build.add_metric((self._version,), 1)
        yield build
        try:
            answer, seconds = asked.result()
        except (Unreachable, Refused) as trouble:
            self._say(f"the service is away: {trouble}")
            yield one("up", "Whether the service answers.", 0)
            return
        self._say("")
        for row in (answer["streams"] or {"groups": ()})["groups"]:
            if row["stream"] == "notices":
                self._counts.know_channel(printable(row["group"]))
        yield one("up", "Whether the service answers.", 1)
        yield one("exporter_answer_seconds", "How long the service took to answer.", seconds)
        yield from figures(answer, self._most_users)

    def _say(self, trouble: str) -> None:
        """Report what is wrong once, and once that it is over."""
        if trouble != self._trouble:
            text = printable(" ".join((trouble or "the service answers again").split()), 2 * LONGEST_WORDS)
            sys.stderr.write(f"{self._program}: {text}\n")
            sys.stderr.flush()
            self._trouble = trouble
