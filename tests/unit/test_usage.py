"""When a GPU counts as in use: thresholds, unknown values and exemptions."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from canhazgpu.config.settings import Memory, Settings, Violations
from canhazgpu.events.gpu import GpuReading, GpuUsage, ProcessUse
from canhazgpu.service.gpus.usage import NOTHING_REPORTED, gpu_usage

THRESHOLD = 100
SETTINGS = Settings(
    host="h",
    memory=Memory(threshold_mb=THRESHOLD),
    violations=Violations(exempt_users=["monitor"], exempt_processes=["Xorg"], exempt_memory_mb=5000),
)


def process(pid: int, memory_mb: int | None, user: str = "bob", name: str = "python3") -> ProcessUse:
    """Return a process."""
    program = f"/usr/bin/{name}"
    return ProcessUse(
        pid=pid, name=name, user=user, memory_mb=memory_mb, uid=1001, person=user, program=program
    )


def gpu(*processes: ProcessUse, used: int | None = 0, **facts: Any) -> GpuUsage:
    """Return the usage of a GPU with this memory and these processes."""
    reading = GpuReading(
        index=3, uuid="GPU-3", name="H100", memory_total_mb=81559, memory_used_mb=used, **facts
    )
    return gpu_usage(reading, processes, SETTINGS)


@pytest.mark.parametrize(("used", "in_use"), [(0, False), (99, False), (100, False), (101, True)])
def test_memory_above_the_threshold_is_use(used: int, in_use: bool) -> None:  # noqa: FBT001 - a table
    """Memory at the threshold is idle; one MiB more is use by an unknown user."""
    found = gpu(used=used)
    assert (found.state, found.in_use, found.memory_mb) == ("ok", in_use, used)
    assert found.users == (("unknown",) if in_use else ())


@pytest.mark.parametrize(("memory_mb", "in_use"), [(1, False), (100, False), (101, True)])
def test_so_is_that_of_a_process(memory_mb: int, in_use: bool) -> None:  # noqa: FBT001 - a table
    """A process above the threshold is use by its user; at the threshold it is not."""
    found = gpu(process(7, memory_mb), used=memory_mb)
    assert found.in_use == in_use
    assert found.users == (("bob",) if in_use else ())
    assert [one.pid for one in found.processes] == ([7] if in_use else [])


def test_small_processes_count_together() -> None:
    """The memory of several processes is added, even if the device reports none."""
    found = gpu(process(9, 51), process(8, 50, "alice"), used=None)
    assert (found.in_use, found.memory_mb, found.users) == (True, 101, ("alice", "bob"))
    assert [one.pid for one in found.processes] == [8, 9]


def test_a_process_whose_memory_is_unknown_is_use() -> None:
    """A process with unknown memory is use."""
    assert gpu(process(7, None), used=0).in_use
    found = gpu(process(7, None), process(8, 30), used=500)
    assert (found.in_use, found.memory_mb) == (True, 500)


def test_a_gpu_that_reports_no_memory_is_judged_by_its_processes() -> None:
    """On a GPU that reports no memory, any process is use, except exempt ones."""
    assert (gpu(used=None).state, gpu(used=None).in_use) == ("ok", False)
    for one in (process(7, 1), process(7, 1000), process(7, None)):
        assert (gpu(one, used=None).in_use, gpu(one, used=None).users) == (True, ("bob",))
    assert not gpu(process(7, 1000, "monitor"), used=None).in_use


def test_work_that_no_process_explains_is_use_where_no_memory_is_reported() -> None:
    """On a GPU that reports no memory, work without a process is use by an unknown user."""
    assert gpu(used=None, utilization_percent=6).users == ("unknown",)
    assert not gpu(used=None, utilization_percent=5).in_use
    assert not gpu(process(7, None, "monitor"), used=None, utilization_percent=99).in_use
    assert not gpu(used=0, utilization_percent=99).in_use


def test_a_gpu_that_reports_neither_memory_nor_processes_is_unknown() -> None:
    """A GPU that reports neither memory nor processes is unknown, never idle."""
    found = gpu(used=None, processes_reported=False)
    assert (found.state, found.in_use, found.reason) == ("unknown", False, NOTHING_REPORTED)
    assert gpu(process(7, 1), used=None, processes_reported=False).in_use
    assert gpu(used=0, processes_reported=False).state == "ok"


@pytest.mark.parametrize("exempt", [{"user": "monitor"}, {"name": "Xorg"}])
def test_the_exempt_and_their_memory_do_not_count(exempt: dict[str, str]) -> None:
    """Exempt processes and their memory do not count, but they are listed."""
    found = gpu(process(7, 5000, **exempt), used=5000 + THRESHOLD)
    assert (found.in_use, found.memory_mb, found.users) == (False, THRESHOLD, ())
    assert [one.pid for one in found.exempt] == [7]
    assert gpu(process(7, 5000, **exempt), used=5000 + THRESHOLD + 1).users == ("unknown",)
    found = gpu(process(7, 5000, **exempt), process(8, 300), used=5300)
    assert (found.in_use, found.memory_mb, found.users) == (True, 300, ("bob",))
    assert [one.pid for one in found.processes] == [8]


def test_an_exempt_process_of_unknown_memory_accuses_nobody() -> None:
    """An exempt process with unknown memory makes the device's memory meaningless; processes still count."""
    assert not gpu(process(7, None, "monitor"), used=9000).in_use
    found = gpu(process(7, None, "monitor"), process(8, 200), used=9000)
    assert (found.in_use, found.users, found.memory_mb) == (True, ("bob",), 200)


def test_exempt_means_the_whole_name() -> None:
    """An exemption compares the whole name."""
    for found in (
        gpu(process(7, 500, name="Xorg2"), used=500),
        gpu(process(7, 500, name="xorg"), used=500),
        gpu(process(7, 500, "monitor2"), used=500),
    ):
        assert found.in_use
        assert not found.exempt


@pytest.mark.parametrize(("field", "state"), [("error", "error"), ("unknown", "unknown")])
def test_a_gpu_that_cannot_be_read_is_not_judged(field: str, state: str) -> None:
    """A GPU that cannot be read is neither in use nor used by anybody."""
    found = gpu(process(7, 5000), used=5000, **{field: "GPU is lost"})
    assert (found.state, found.reason, found.in_use, found.users) == (state, "GPU is lost", False, ())


PROCESSES = st.lists(
    st.builds(
        process,
        st.integers(1, 50),
        st.none() | st.integers(0, 300),
        st.sampled_from(["bob", "alice", "monitor"]),
        st.sampled_from(["python3", "Xorg"]),
    ),
    max_size=5,
    unique_by=lambda one: one.pid,
)


@given(PROCESSES, st.none() | st.integers(0, 1000))
def test_what_holds_for_every_reading(processes: list[ProcessUse], used: int | None) -> None:
    """For every reading, exempt processes are never named, use has a user, and order has no effect."""
    found = gpu(*processes, used=used)
    assert "monitor" not in found.users
    assert bool(found.users) == found.in_use
    assert found.state == "ok" or not found.in_use
    assert {one.pid for one in found.exempt} == {
        one.pid for one in processes if one.user == "monitor" or one.name == "Xorg"
    }
    turned = gpu(*reversed(processes), used=used)
    assert (turned.users, turned.processes, turned.memory_mb) == (
        found.users,
        found.processes,
        found.memory_mb,
    )


@given(PROCESSES, st.integers(0, 1000), st.integers(0, 300))
def test_more_memory_never_makes_a_gpu_idle(processes: list[ProcessUse], used: int, more: int) -> None:
    """More memory on the device never makes a GPU idle."""
    assert gpu(*processes, used=used + more).in_use or not gpu(*processes, used=used).in_use


def test_a_name_is_no_exemption() -> None:
    """A process that calls itself Xorg is not exempt; a proven path is."""
    named = ProcessUse(pid=7, name="Xorg", user="bob", memory_mb=500, uid=1001, person="bob")
    found = gpu(named, used=500)
    assert (found.in_use, found.users, found.exempt) == (True, ("bob",), ())
    by_path = msgspec.structs.replace(
        SETTINGS, violations=Violations(exempt_processes=["/usr/bin/train", "nvidia-persistenced"])
    )
    reading = GpuReading(index=0, uuid="GPU-0", name="H100", memory_used_mb=500)
    assert not gpu_usage(reading, [process(7, 500, name="train")], by_path).in_use
    cut = msgspec.structs.replace(named, program="nvidia-persiste", uid=0, person=None)
    assert not gpu_usage(reading, [cut], by_path).in_use


def test_an_exempt_program_with_much_memory_counts_again() -> None:
    """An exempt program counts again if all of a user's instances together use much memory."""
    assert not gpu(process(7, 2500, name="Xorg"), process(8, 2500, name="Xorg"), used=5000).in_use
    found = gpu(process(7, 2500, name="Xorg"), process(8, 2501, name="Xorg"), used=5001)
    assert (found.users, [one.pid for one in found.processes]) == (("bob",), [7, 8])
    assert gpu(process(7, None, name="Xorg"), used=5001).users == ("bob",)
    assert not gpu(process(7, None, name="Xorg"), process(8, 90), used=5090).in_use


def test_a_shared_server_of_roots_is_nobodys_use() -> None:
    """A shared server of root's is not use; one of a user's is use by that user."""
    name = "nvidia-cuda-mps-server"
    server = ProcessUse(pid=7, name=name[:15], user="root", memory_mb=130, uid=0, program=f"/usr/bin/{name}")
    assert not gpu(server, used=130).in_use
    assert gpu(server, process(8, 900), used=1030).users == ("bob",)
    own = msgspec.structs.replace(server, user="bob", person="bob", uid=1001)
    assert gpu(own, used=130).users == ("bob",)
    assert gpu(msgspec.structs.replace(server, program=None), used=130).users == ("root",)
