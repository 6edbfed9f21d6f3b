"""A real exporter in its own process, and what it says, read as Prometheus reads it."""

import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from prometheus_client.parser import text_string_to_metric_families
from support.daemon import COMMAND, PATIENCE, Daemon, until
from support.people import Person
from support.ports import free_port


class Exporter:
    """The exporter of a host; `output` is what it has written."""

    def __init__(self, daemon: Daemon, *words: str, person: Person | None = None) -> None:
        """Start it, as a person where one is named."""
        self.address = f"127.0.0.1:{free_port()}"
        self._output = Path(daemon.folder, f"exporter-{self.address.partition(':')[2]}.log")
        words = ("exporter", "--listen", self.address, *words)
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                person.command(*COMMAND, *words) if person else [*COMMAND, *words],
                env=daemon.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    @property
    def output(self) -> str:
        """What it has written until now."""
        return self._output.read_text()

    def ready(self) -> Self:
        """Wait until it says where the metrics are."""
        until(lambda: self.process.poll() is not None or "/metrics" in self.output, what="for the exporter")
        assert self.process.poll() is None, self.output
        return self

    def text(self, path: str = "/metrics") -> str:
        """Return the metrics as they are sent."""
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=PATIENCE) as answer:
            return str(answer.read().decode())

    def value(self, name: str, **labels: str) -> float | None:
        """Return one value, or None if there is none with exactly these labels."""
        return values(self.text()).get((name, frozenset(labels.items())))


def values(text: str) -> dict[tuple[str, Any], float]:
    """Return each value by its name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@contextmanager
def exporting(daemon: Daemon, *words: str, person: Person | None = None) -> Iterator[Exporter]:
    """Run an exporter that is ready."""
    found = Exporter(daemon, *words, person=person)
    try:
        yield found.ready()
    finally:
        found.process.kill()
        found.process.wait()
