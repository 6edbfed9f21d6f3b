"""The rules and the dashboard that are shipped: they ask for what the exporter has."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from canhazgpu.cli.exporter.event_counts import EventCounts
from canhazgpu.cli.exporter.figures import figures, one

ROOT = Path(__file__).parents[2]
FOLDER = files("canhazgpu.config").joinpath("monitoring")
OF_PROMETHEUS = {"job", "instance", "le", "__name__"}
GPU = {
    "gpu_id": 0,
    "uuid": "GPU-0",
    "name": "H100",
    "status": "IN_USE",
    "in_use": True,
    "memory_used_mb": 45,
    "memory_total_mb": 81559,
    "utilization_percent": 7,
    "temperature_c": 31,
    "reservation": {"id": "r1", "kind": "run", "user": "ann"},
    "violations": [],
}
STREAMS = {
    "bytes": 1,
    "limit_bytes": 2,
    "streams": [{"stream": "events", "entries": 1, "bytes": 1, "trimmed": 0}],
    "groups": [{"stream": "events", "group": "log", "behind": 0, "abandoned": None}],
}
ANSWER: dict[str, Any] = {
    "gpus": [GPU],
    "queue": [],
    "bookings": [],
    "scan_age_s": 0.5,
    "scan_duration_s": 0.01,
    "stalled": None,
    "redis_trouble": None,
    "redis_weaknesses": [],
    "journal_weakness": None,
    "restored_at": "2026-11-30T10:00:00.000Z",
    "streams": STREAMS,
}


def exported() -> dict[str, set[str]]:
    """Return the labels of every value that the exporter has."""
    registry = CollectorRegistry()
    counts = EventCounts(registry)
    counts.know_channel("wall")
    families: list[Metric] = [*registry.collect(), *figures(ANSWER, 50), one("up", "", 1)]
    found: dict[str, set[str]] = defaultdict(set)
    for family in families:
        for sample in family.samples:
            found[sample.name] |= set(sample.labels)
    return found


def rules(name: str) -> list[dict[str, Any]]:
    """Return the rules of a file."""
    text = FOLDER.joinpath(f"canhazgpu.{name}.yml").read_text()
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def dashboard() -> Any:
    """Return the dashboard."""
    return json.loads(FOLDER.joinpath("canhazgpu.dashboard.json").read_text())


def expressions() -> Iterator[str]:
    """Yield every expression that is shipped."""
    for name in ("alerts", "recording"):
        yield from (rule["expr"] for rule in rules(name))
    for panel in dashboard()["panels"]:
        yield from (target["expr"] for target in panel["targets"])


@pytest.mark.parametrize("expression", sorted(set(expressions())))
def test_an_expression_asks_for_metrics_and_labels_that_there_are(expression: str) -> None:
    """Every name in it is one of the exporter's, and so is every label that it selects or sums by."""
    known = exported()
    names = set(re.findall(r"\bcanhazgpu_\w+", expression))
    assert names - known.keys() == set()
    labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=(?!=))\s*\"", expression))
    for listed in re.findall(r"\b(?:by|on|without)\s*\(([^)]*)\)", expression):
        labels |= {label.strip() for label in listed.split(",")}
    there = set().union(*(known[name] for name in names)) | OF_PROMETHEUS
    assert labels - there == set()


def test_the_dashboard_can_be_provisioned() -> None:
    """It names no data source of ours, has an identity, and its panels neither overlap nor share an id."""
    found = dashboard()
    assert (found["uid"], found["title"]) == ("canhazgpu", "canhazgpu")
    panels = found["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    cells = [
        (column, row)
        for place in places
        for column in range(place["x"], place["x"] + place["w"])
        for row in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(column for column, _ in cells) < 24
    sources = {panel["datasource"]["uid"] for panel in panels}
    assert sources == {"${datasource}"}
    assert {one["name"] for one in found["templating"]["list"]} == {"datasource", "instance"}


def test_every_alert_says_what_to_do() -> None:
    """It has a severity, the host, and a sentence on what to do next; its name is unique."""
    alerts = rules("alerts")
    assert len({alert["alert"] for alert in alerts}) == len(alerts)
    for alert in alerts:
        assert alert["labels"]["severity"] in {"critical", "warning", "info"}
        assert alert["annotations"]["summary"].startswith("{{ $labels.instance }}: ")
        assert alert["annotations"]["description"].endswith(".")


def test_every_rule_has_a_test() -> None:
    """tests/prometheus/rules_test.yml names each alert and each recorded value."""
    text = (ROOT / "tests" / "prometheus" / "rules_test.yml").read_text()
    names = [rule.get("alert") or rule["record"] for name in ("alerts", "recording") for rule in rules(name)]
    assert [name for name in names if name not in text] == []
