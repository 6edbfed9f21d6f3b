"""Run every measurement, or those named: `python -m bench idle start scan`."""

import os
import platform
import sys
from collections.abc import Callable, Iterable

from bench import (
    allocate,
    bookings,
    completion,
    consumers,
    enforcement,
    fleet,
    growth,
    idle,
    journal,
    lives,
    page,
    report,
    scan,
    scrape,
    start,
    top,
)
from bench.scale import measurements

ALL: dict[str, Callable[[], Iterable[str]]] = {
    "start": start.measure,
    "completion": completion.measure,
    "scan": scan.measure,
    "allocate": allocate.measure,
    "bookings": bookings.measure,
    "growth": growth.measure,
    "journal": journal.measure,
    "enforcement": enforcement.measure,
    "lives": lives.measure,
    "report": report.measure,
    "fleet": fleet.measure,
    "scale": measurements.measure,
    "idle": idle.measure,
    "top": top.measure,
    "scrape": scrape.measure,
    "consumers": consumers.measure,
    "page": page.measure,
}


def main() -> None:
    """Print the figures of the measurements that were asked for."""
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}")
    for name in sys.argv[1:] or ALL:
        if name not in ALL:
            sys.exit(f"Error: no measurement {name}; there are {', '.join(ALL)}")
        for line in ALL[name]():
            print(f"{name}: {line}", flush=True)


main()
