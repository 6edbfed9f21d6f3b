"""Containers that carry a run's name: whose they may be, tested with real namespaces and cgroups."""

import contextlib
import os
import secrets
import subprocess
from pathlib import Path

import pytest
from support.control_groups import container_name, control_group, needs_cgroups
from support.daemon import until
from support.people import Person

from canhazgpu.events.linux.processes import Process, start_time_of
from canhazgpu.events.reservations import RUN, Record
from canhazgpu.service.reservations.detached_containers import containers_of

RUN_ID = f"r{secrets.randbits(48)}-1"  # All processes of the host are looked at, also those of other tests.
pytestmark = [
    pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else"),
    needs_cgroups,
]


@pytest.mark.parametrize(
    ("maker", "options", "counts"),
    [
        (None, "--pid --fork", True),
        (0, "-Urpf", True),
        (1, "-Urpf", False),
        (1, None, False),
    ],
    ids=["root's", "the holder's", "another's", "only called a container"],
)
def test_a_run_is_held_by_no_container_of_another_user(
    people: list[Person], maker: int | None, options: str | None, *, counts: bool
) -> None:
    """A run's name counts in containers of unproven users and of the holder, not in those of another user."""
    holder = people[0].uid
    record = Record(
        id=RUN_ID, kind=RUN, user=people[0].name, uid=holder, gpus=(0,), pid=1, start=1, started_ms=0
    )
    program = ["sh", "-c", "sleep 60 & wait"]
    words = [
        "env",
        f"CANHAZGPU_RESERVATION={RUN_ID}",
        *(["unshare", *options.split()] if options else []),
        *program,
    ]
    process = subprocess.Popen(words) if maker is None else people[maker].spawn(*words)
    uid = 0 if maker is None else people[maker].uid
    try:
        until(lambda: any(comm_of(pid) == "sleep" for pid in tree(process.pid)))
        pids = tree(process.pid)
        sleep = next(pid for pid in pids if comm_of(pid) == "sleep")
        start = start_time_of(sleep)
        assert start is not None
        with control_group(f"user.slice/user-{uid}.slice/user@{uid}.service/{container_name()}") as group:
            for pid in pids:
                (group / "cgroup.procs").write_text(str(pid))
            found = containers_of(record, lambda uid: uid >= 1000)
        assert (Process(sleep, start) in found) == counts
        if not counts:
            assert found == []
    finally:
        for pid in reversed(tree(process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        process.wait()


def comm_of(pid: int) -> str:
    """Return the name of a process."""
    return Path(f"/proc/{pid}/comm").read_text().strip()


def tree(root: int) -> list[int]:
    """Return a process and its descendants."""
    pids = [root]
    for pid in pids:
        pids += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return pids
