"""Lines of `status` where the driver does not say how much memory is used."""

from typing import Any

import pytest

from canhazgpu.cli.status_lines import line

HELD = {
    "user": "bob",
    "label": None,
    "for_s": 60,
    "lingering_s": None,
    "kind": "manual",
    "expires_in_s": 3600,
    "last_heartbeat_s": None,
}


def shown(status: str, *memory: int | None, others: int = 0, **more: Any) -> str:
    """Return what follows the number in the line of a GPU whose processes have this memory."""
    processes = [
        {"pid": pid, "name": "python3", "user": "carol", "memory_mb": one}
        for pid, one in enumerate(memory, 10)
    ]
    gpu = {
        "gpu_id": 2,
        "status": status,
        "users": ["bob"],
        "in_use": bool(memory),
        "memory_mb": sum(one or 0 for one in memory),
        "memory_used_mb": None,
        "processes": processes,
        "others": processes[:others],
        "reservation": HELD,
        "drained": None,
        "silenced_s": None,
        "released_s": None,
    }
    return line(gpu | more).partition(": ")[2]


def test_use_without_a_reservation_names_only_what_is_known() -> None:
    """No amount is said where none is reported; what scripts cut the users from stays as it is."""
    before = "IN USE WITHOUT RESERVATION by user bob - "
    assert shown("UNRESERVED", None) == f"{before}used by PID 10 (python3)"
    assert shown("UNRESERVED", 0) == f"{before}0MB used by PID 10 (python3)"
    assert shown("UNRESERVED", None, 512) == f"{before}512MB used by PID 10 (python3), PID 11 (python3)"
    assert shown("UNRESERVED", in_use=True) == f"{before}used by unknown process"


def test_a_holders_use_says_what_is_not_reported() -> None:
    """As the line of an idle GPU does."""
    bound = "IN USE by bob for 0h 1m 0s (manual, expires in 1h 0m 0s) "
    assert shown("IN_USE", 64) == f"{bound}[validated: 64MB, 1 processes]"
    assert shown("IN_USE") == f"{bound}[validated: no actual usage detected]"
    seen = "[validated: 1 processes, memory not reported]"
    assert shown("IN_USE", None) == bound + seen
    also = ", also used by user carol - used by PID 10 (python3)"
    assert shown("IN_USE", None, None, others=1) == bound + seen + also


@pytest.mark.parametrize(
    ("memory", "more", "said"),
    [((), {}, "memory not reported"), ((5,), {}, "5MB used"), ((), {"memory_used_mb": 0}, "0MB used")],
)
def test_an_unmanaged_gpu_says_the_same(memory: tuple[int, ...], more: dict[str, Any], said: str) -> None:
    """0MB is only said where it was read."""
    assert shown("UNMANAGED", *memory, **more) == f"NOT MANAGED [{said}]"
