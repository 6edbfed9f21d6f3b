"""The arguments of `client.reserve`: an invalid one is reported by its name in Python."""

from typing import Any

import pytest

from canhazgpu.client import reserve
from canhazgpu.client.reserve_arguments import checked_wait, request_body


class Number:
    """A whole number of another library."""

    def __index__(self) -> int:
        """Return it."""
        return 2


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"gpus": "two"}, TypeError, "gpus must be a number such as 2, not 'two'"),
        ({"gpus": 1.5}, TypeError, "gpus must be a number such as 2, not 1.5"),
        ({"gpus": True}, TypeError, "gpus must be a number"),
        (
            {"gpus": [0, 1]},
            TypeError,
            "gpus must be a number such as 2, not [0, 1]; gpu_ids=[0, 1] selects GPUs",
        ),
        ({"gpus": print}, TypeError, "write @reserve(), with parentheses"),
        ({"gpus": 0}, ValueError, "gpus is 0: reserve 1 or more"),
        ({"gpus": -1}, ValueError, "gpus is -1: reserve 1 or more"),
        ({"vendor": "intel"}, ValueError, "vendor must be one of nvidia, amd, not 'intel'"),
        ({"gpus": 9999}, ValueError, "gpus is 9999"),
        ({"mig": 1}, TypeError, "mig must be a string such as '1g.10gb', not 1"),
        ({"mig": "g."}, ValueError, "mig: 'g.' is not a MIG profile: write it like 1g.10gb"),
        ({"mig": "1g.10gb:0"}, ValueError, "mig: '1g.10gb:0': request 1 or more instances"),
        ({"mig": "1g.10gb", "gpus": 2}, ValueError, "gpus is 2: write mig='1g.10gb:2'"),
        ({"mig": "1g.10gb", "gpu_ids": ["0:1"]}, ValueError, "but gpu_ids names GPUs: leave one of them out"),
        ({"gpu_ids": "0-1"}, TypeError, "gpu_ids must be a list such as [0, 1], not '0-1'"),
        ({"gpu_ids": 3}, TypeError, "gpu_ids must be a list such as [0, 1], not 3"),
        ({"gpu_ids": []}, ValueError, "gpu_ids is empty"),
        ({"gpu_ids": [0.5]}, TypeError, "gpu_ids has 0.5, which is neither a number nor the start of a UUID"),
        ({"gpu_ids": [-1]}, ValueError, "gpu_ids: there is no GPU -1"),
        ({"gpus": 2, "gpu_ids": [1, 2, 3]}, ValueError, "gpus is 2, but gpu_ids has 3"),
        ({"duration": 4}, TypeError, "duration must be a string such as '4h', not 4"),
        ({"duration": "4"}, ValueError, "duration: '4' is not a duration: write 30s"),
        ({"duration": "1ms"}, ValueError, "duration: '1ms' is too short"),
        ({"wait": 30}, TypeError, "wait must be True, False or a string such as '30m', not 30"),
        ({"wait": None}, TypeError, "wait must be True, False or a string"),
        ({"wait": "soon"}, ValueError, "wait: 'soon' is not a duration"),
        ({"note": 7}, TypeError, "note must be a string, not 7"),
        ({"note": "n" * 201}, ValueError, "note has 201 characters; the limit is 200"),
    ],
)
def test_an_invalid_argument_is_named(arguments: dict[str, Any], error: type[Exception], said: str) -> None:
    """Before anything is asked of the service."""
    with pytest.raises(error) as raised:
        reserve(**arguments)
    assert said in str(raised.value)


def test_valid_arguments() -> None:
    """Any whole number, any sequence of GPUs, and the forms of the command line."""
    whole: Any = Number()
    assert request_body(whole, None, None, None) == {"kind": "manual", "count": 2}
    assert request_body(1, (0, whole, "GPU-8f"), "2 days", "paper") == {
        "kind": "manual",
        "gpus": [0, 2, "GPU-8f"],
        "duration": "2 days",
        "note": "paper",
    }
    assert request_body(2, range(2), None, None)["gpus"] == [0, 1]
    assert request_body(1, None, None, None, "amd")["vendor"] == "amd"
    assert request_body(1, None, None, None, mig="1G.10GB:2") == {
        "kind": "manual",
        "count": 2,
        "profile": "1g.10gb",
    }
    assert [checked_wait(one) for one in (True, False, "30m")] == [True, False, "30m"]
