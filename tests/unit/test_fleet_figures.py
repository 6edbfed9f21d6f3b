"""The metrics of all hosts of a fleet."""

from typing import Any

from canhazgpu.cli.exporter.event_counts import OTHER
from canhazgpu.cli.exporter.fleet_figures import MOST_HOSTS, fleet_figures


def row(host: str, away: str | None = None, **gpus: int) -> dict[str, Any]:
    """Return the line of a host."""
    counts = {"gpus": gpus, "waiting": 2, "violations": 1}
    return {"host": host, "seen_s": 3, "away": away, "counts": counts}


def values(*rows: dict[str, Any]) -> dict[tuple[str, ...], float]:
    """Return the values by name and label values."""
    return {
        (sample.name.removeprefix("canhazgpu_fleet_"), *sample.labels.values()): sample.value
        for family in fleet_figures(rows)
        for sample in family.samples
    }


def test_each_host_has_its_figures() -> None:
    """GPUs by state, also those of a host that is away, whose copy has an age."""
    found = values(row("a", AVAILABLE=3, IN_USE=5), row("b", "no sign of life for 1h", UNKNOWN=8))
    assert (found["hosts", "current"], found["hosts", "away"]) == (1, 1)
    assert (found["gpus", "a", "available"], found["gpus", "a", "in_use"], found["gpus", "a", "error"]) == (
        3,
        5,
        0,
    )
    assert (found["host_up", "a"], found["host_up", "b"], found["host_age_seconds", "b"]) == (1, 0, 3)
    assert (found["queue_requests", "a"], found["violations_open", "b"]) == (2, 1)


def test_a_hostile_name_is_a_label() -> None:
    """A name with control characters cannot make lines of its own."""
    assert ("host_up", r"a\nb 1") in values(row("a\nb 1"))


def test_the_number_of_hosts_is_bounded() -> None:
    """Beyond the bound, hosts are added up."""
    found = values(*(row(f"h{number:05}", AVAILABLE=1) for number in range(MOST_HOSTS + 3)))
    assert len([key for key in found if key[0] == "host_up"]) == MOST_HOSTS
    assert found["gpus", OTHER, "available"] == 3
    assert found["queue_requests", OTHER] == 6
    assert found["hosts", "current"] == MOST_HOSTS + 3


def test_an_empty_fleet() -> None:
    """Without hosts, only their number is there."""
    assert values() == {("hosts", "current"): 0, ("hosts", "away"): 0}


def test_a_divided_gpu_counts_as_its_instances() -> None:
    """A card that is held as a whole is partitioned, and one that fails has an error."""
    line = row("a", IN_USE=3, ERROR=1, AVAILABLE=1)
    line["counts"] |= {"whole": {"AVAILABLE": 1}, "instances": {"IN_USE": 2}}
    found = values(line)
    states = ("available", "in_use", "error", "partitioned")
    assert [found["gpus", "a", state] for state in states] == [1, 2, 1, 1]
