"""The names in requests are one line."""

from typing import Any

import msgspec
import pytest

from canhazgpu.service.api import requests


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (requests.Uuid, "GPU-1"),
        (requests.Channel, "wall"),
        (requests.JobName, "4711[1].head"),
        (requests.Operation, "a-1"),
    ],
)
def test_a_name_ends_where_its_line_ends(kind: Any, name: str) -> None:
    """A line feed at the end would go into labels and keys: `$` of a pattern matches before it."""
    assert msgspec.convert(name, kind) == name
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(f"{name}\n", kind)
