"""Notices and commands about containers without a proven user, and about memory that is not reported."""

from typing import Any

import msgspec
import pytest

from canhazgpu.cli.violations.timeline import head
from canhazgpu.events.gpu import Container
from canhazgpu.events.notices import Notice
from canhazgpu.events.violations import Violation
from canhazgpu.notifiers.messages.html_page import page
from canhazgpu.notifiers.messages.plain_text import lines
from canhazgpu.notifiers.messages.sample_facts import BOX, NOBODYS, closed, violation
from canhazgpu.notifiers.messages.sample_notices import samples

SAMPLES = {one.name: one.notice for one in samples()}


def boxed(runtime: str = "container", key: str = "containers:1001") -> Violation:
    """Return a violation of a container whose memory is not reported."""
    user = f"root in {runtime} {BOX[:12]}"
    inside = msgspec.structs.replace(
        NOBODYS, uid=None, user=user, container=Container(runtime=runtime, id=BOX)
    )
    return violation(
        1040, 3, inside, user=f"{user} and 1 more", uid=None, person=None, key=key, peak_memory_mb=0
    )


def told(name: str, one: Violation) -> Notice:
    """Return the sample notice about this violation."""
    return msgspec.structs.replace(SAMPLES[name], user=one.user, person=None, violations=(one,))


@pytest.mark.parametrize("key", ["containers", "containers:1001"])
def test_a_name_that_changes_is_not_silenced(key: str) -> None:
    """The suggested command silences the GPU, because the next container has another name."""
    text = "\n".join(lines(told("opened-admins", boxed(key=key))))
    assert "canhazgpu silence add --gpu 3 --for 2h" in text
    assert "--user" not in text


@pytest.mark.parametrize(
    ("runtime", "said"),
    [("container", "in container 3f2a9c51d0b7"), ("docker", "in docker container 3f2a9c51d0b7")],
)
def test_the_runtime_is_named_where_it_is_known(runtime: str, said: str) -> None:
    """A notice names the runtime if it is known, and otherwise says `container`."""
    text = "\n".join(lines(told("opened-admins", boxed(runtime))))
    assert f"memory unknown {said}" in text


def test_memory_that_is_not_reported_is_no_number() -> None:
    """Memory that is not reported is left out of notices; it is not shown as 0MB."""
    one = boxed()
    over = msgspec.structs.replace(one, closed=closed(1, 1).closed, reason="stopped", duration_s=60)
    for notice in (told("opened-admins", one), told("resolved-admins", over)):
        assert "0MB" not in "\n".join(lines(notice)).replace("H100 80GB", "")
        assert "0MB" not in page(notice)
    assert ": used since 2026" in "\n".join(lines(told("opened-admins", one)))


def test_the_case_says_that_memory_is_not_reported() -> None:
    """`violations show` leaves out memory that is not reported."""
    row: dict[str, Any] = {**msgspec.to_builtins(boxed()), "notices": [], "told": "", "reached_at": None}
    assert "Memory:    not reported\n" in head(row | {"state": "open"})
    assert "Memory:    5MB, peak 7MB\n" in head(row | {"memory_mb": 5, "peak_memory_mb": 7})
