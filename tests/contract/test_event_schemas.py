"""The JSON Schemas of events say what each field means and which values it has, and show a real event."""

from typing import Any

import pytest
from support.published_events import faults

from canhazgpu.events.contract.descriptions import DESCRIPTIONS
from canhazgpu.events.contract.values import VALUES
from canhazgpu.events.envelope import TYPES
from canhazgpu.events.schemas import asyncapi, data_of, examples

SCHEMAS: dict[str, Any] = asyncapi()["components"]["schemas"]


@pytest.mark.parametrize("name", SCHEMAS)
def test_each_field_is_described(name: str) -> None:
    """And nothing is described that an event does not have."""
    assert DESCRIPTIONS[name].keys() == SCHEMAS[name]["properties"].keys()
    assert VALUES.get(name, {}).keys() <= SCHEMAS[name]["properties"].keys()
    for field, about in SCHEMAS[name]["properties"].items():
        assert about["description"].endswith("."), field


def test_nothing_else_is_described() -> None:
    """The descriptions of a removed event go with it."""
    assert DESCRIPTIONS.keys() == SCHEMAS.keys()
    assert VALUES.keys() <= SCHEMAS.keys()


@pytest.mark.parametrize("event_type", TYPES)
def test_each_type_has_a_true_example(event_type: str) -> None:
    """It was published by a service, and its schema allows it."""
    assert faults(event_type, examples()[event_type]) == []
    assert len(examples()[event_type]) > 0


@pytest.mark.parametrize("name", SCHEMAS)
def test_each_schema_has_one_example(name: str) -> None:
    """Also those of the parts of an event."""
    assert len(SCHEMAS[name]["examples"]) == 1


@pytest.mark.parametrize(
    ("event_type", "change", "said"),
    [
        ("canhazgpu.gpu.changed", {"state": "fine"}, "state"),
        ("canhazgpu.reservation.released", {"reason": "bored"}, "reason"),
        ("canhazgpu.reservation.released", {"gpus": ["zero"]}, "gpus"),
        ("canhazgpu.notice.attempted", {"outcome": "lost"}, "outcome"),
    ],
)
def test_a_wrong_value_is_found(event_type: str, change: dict[str, Any], said: str) -> None:
    """By the check that reads what the services of all tests publish."""
    assert said in "".join(faults(event_type, examples()[event_type] | change))


def test_a_value_can_be_absent() -> None:
    """A reason belongs to events of the end alone."""
    assert faults("canhazgpu.reservation.created", examples()["canhazgpu.reservation.created"]) == []
    assert "reason" in data_of("canhazgpu.reservation.created").__struct_fields__
