"""The figures of all hosts of the fleet, for the one Prometheus that asks one of them."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from canhazgpu.cli.exporter.event_counts import OTHER
from canhazgpu.cli.exporter.figures import STATES, one
from canhazgpu.client.connection import Client, Refused, Unreachable
from canhazgpu.events.sanitize import LONGEST_WORDS, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client.core import Metric

PATH = "/v1/fleet/summary"
BROKEN = ("ERROR", "UNKNOWN")
SILENCE = 12.0  # Seconds; the fleet's Redis may take 10 for a part of the hosts.
MOST_HOSTS = 2000  # That have figures of their own; the others are added up.


def fleet_registry(client: Client, program: str) -> CollectorRegistry:
    """Return a registry that asks `client` when somebody asks it. `program` is named in what is reported."""
    registry = CollectorRegistry()
    registry.register(FleetCollector(client, program))
    return registry


class FleetCollector(Collector):
    """The figures of this moment. If the fleet cannot be read to the end, `canhazgpu_fleet_up` is 0."""

    def __init__(self, client: Client, program: str) -> None:
        """Ask nothing yet."""
        self._client, self._program = client, program
        self._trouble = ""

    def describe(self) -> tuple[Metric, ...]:
        """Return nothing: the service need not answer when this is registered."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        rows, trouble = list[dict[str, Any]](), ""
        try:
            for row in self._client.lines(PATH, silence=SILENCE):
                if row.get("state") == "refused":
                    trouble = row["detail"]
                else:
                    rows.append(row)
        except (Unreachable, Refused) as error:
            trouble = str(error)
        self._say(trouble)
        yield one("fleet_up", "Whether all hosts of the fleet could be read.", not trouble)
        yield from fleet_figures(rows)

    def _say(self, trouble: str) -> None:
        """Report what is wrong once, and once that it is over."""
        if trouble != self._trouble:
            text = printable(trouble or "the fleet can be read again", 2 * LONGEST_WORDS)
            sys.stderr.write(f"{self._program}: {text}\n")
            sys.stderr.flush()
            self._trouble = trouble


def _states(counts: dict[str, Any]) -> Counter[str]:
    """Return how many GPUs are in each state; one that is divided has a state of its own only if it fails."""
    found = Counter[str](counts["gpus"])
    if "whole" not in counts:  # An older service.
        return found
    shown = Counter[str](counts["whole"]) + Counter[str](counts["instances"])
    for state, count in (found - shown).items():
        shown[state if state in BROKEN else "PARTITIONED"] += count
    return shown


def fleet_figures(rows: Sequence[dict[str, Any]]) -> Iterator[Metric]:
    """Yield the metrics of the lines of /v1/fleet/summary."""
    away = sum(bool(row["away"]) for row in rows)
    states = {"current": len(rows) - away, "away": away}
    yield _gauge("hosts", "Hosts of the fleet; away: only the last state is known.", ("state",), states)
    named, others = rows[:MOST_HOSTS], rows[MOST_HOSTS:]
    hosts = {printable(row["host"]): row for row in named}
    gpus = {
        (host, state.lower()): _states(row["counts"])[state]
        for host, row in hosts.items()
        for state in STATES
    }
    waiting = {host: row["counts"]["waiting"] for host, row in hosts.items()}
    violations = {host: row["counts"]["violations"] for host, row in hosts.items()}
    if others:
        counts = [row["counts"] for row in others]
        gpus |= {(OTHER, state.lower()): sum(_states(count)[state] for count in counts) for state in STATES}
        waiting[OTHER] = sum(count["waiting"] for count in counts)
        violations[OTHER] = sum(count["violations"] for count in counts)
    yield _gauge("gpus", "GPUs of each host by state.", ("host", "state"), gpus)
    yield _gauge("queue_requests", "Requests in the queue of each host.", ("host",), waiting)
    yield _gauge("violations_open", "Open violations of each host.", ("host",), violations)
    yield _gauge(
        "host_up",
        "Whether the copy of the host is current.",
        ("host",),
        {host: not row["away"] for host, row in hosts.items()},
    )
    yield _gauge(
        "host_age_seconds",
        "How old the copy of the host is.",
        ("host",),
        {host: row["seen_s"] for host, row in hosts.items()},
    )


def _gauge(name: str, about: str, labels: Sequence[str], values: dict[Any, Any]) -> GaugeMetricFamily:
    found = GaugeMetricFamily(f"canhazgpu_fleet_{name}", about, labels=labels)
    for key, value in values.items():
        found.add_metric((key,) if isinstance(key, str) else key, value)
    return found
