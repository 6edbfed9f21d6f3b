"""`run` in a job of Slurm or PBS uses the GPUs of the job, which the service knows, not the environment."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.daemon import COMMAND, Daemon, gpu, until
from support.people import Person

from canhazgpu.client import Client

CHG = " ".join(COMMAND)
JOBS = {"slurm": ("SLURM_JOB_ID", "17"), "pbs": ("PBS_JOBID", "17[3].head.example")}
SHOW = "echo $CUDA_VISIBLE_DEVICES $CANHAZGPU_RESERVATION"


@pytest.fixture
def three(host: Daemon) -> Daemon:
    """A host with three idle GPUs."""
    host.place(*(gpu(index, minor=index, memory_used_mb=45) for index in range(3)))
    until(lambda: "GPU 2: AVAILABLE" in host.status())
    return host


@contextmanager
def job(host: Daemon, kind: str, person: Person, gpus: list[int]) -> Iterator[str]:
    """Hold GPUs for a job of a person until the block ends; yields the id of the reservation."""
    client, name = Client(str(host.folder / "s")), JOBS[kind][1]
    body = {"kind": kind, "job": name, "uid": person.uid, "devices": gpus}
    yield client.post("/v1/jobs", body)["reservation"]["id"]
    client.post("/v1/jobs/release", {"kind": kind, "job": name})


def run(
    host: Daemon, kind: str, person: Person, *words: str, **variables: str
) -> "subprocess.CompletedProcess[str]":
    """Run words as a person, with the variables that the scheduler sets in the job."""
    variable, name = JOBS[kind]
    return subprocess.run(
        person.command("env", f"{variable}={name}", *(f"{k}={v}" for k, v in variables.items()), *words),
        env=host.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def uuids(host: Daemon, *gpus: int) -> str:
    """Return the UUIDs of GPUs, as CUDA_VISIBLE_DEVICES has them."""
    rows = Client(str(host.folder / "s")).status()
    return ",".join(row["uuid"] for row in rows if row["gpu_id"] in gpus)


def shown(done: "subprocess.CompletedProcess[str]") -> Any:
    """Return what the variables are in the command."""
    assert (done.returncode, done.stderr) == (0, ""), done
    return tuple(done.stdout.split())


@pytest.mark.parametrize("kind", JOBS)
def test_a_run_in_a_job_uses_its_gpus(three: Daemon, people: list[Person], kind: str) -> None:
    """All of them, by UUID, or as many as it asks for, also a run in that run; nothing else is reserved."""
    inner = f"{CHG} run --gpus 1 -- sh -c '{SHOW}'"
    with job(three, kind, people[0], [1, 2]) as held:
        assert shown(run(three, kind, people[0], *COMMAND, "run", "--", "sh", "-c", SHOW)) == (
            uuids(three, 1, 2),
            held,
        )
        done = run(three, kind, people[0], *COMMAND, "run", "--", "sh", "-c", inner)
        assert shown(done)[1] == held
        assert "GPU 0: AVAILABLE" in three.status()
        done = run(three, kind, people[0], *COMMAND, "run", "--gpus", "3", "--", "true")
        assert "3 GPUs were requested within reservation" in done.stderr
        assert "--new reserves others" in done.stderr


def test_new_reserves_others(three: Daemon, people: list[Person]) -> None:
    """`--new` takes a free GPU, which runs in it use too; it never waits for the job that it is part of."""
    inner = f"{SHOW}; {CHG} run -- sh -c '{SHOW}'"
    with job(three, "slurm", people[0], [0, 1]) as held:
        new = ("run", "--new", "--gpus", "1", "--")
        first, mine, second, again = shown(run(three, "slurm", people[0], *COMMAND, *new, "sh", "-c", inner))
        assert (first, second, mine) == ("2", "2", again)
        assert mine != held
        words = ("run", "--new", "--gpus", "2", "--wait", "--", "true")
        done = run(three, "slurm", people[0], *COMMAND, *words)
        assert "the request would wait for itself: it is part of a job on 2 GPU(s): [0, 1]" in done.stderr


def test_a_job_of_somebody_else_is_not_used(three: Daemon, people: list[Person]) -> None:
    """A user who sets the variable to another user's job gets a GPU of their own, as without it."""
    with job(three, "slurm", people[0], [0, 1]) as held:
        done = run(three, "slurm", people[1], *COMMAND, "run", "--", "sh", "-c", SHOW)
        gpus, reservation = shown(done)
        assert gpus == "2"
        assert reservation != held


def test_variables_without_a_reservation_change_nothing(three: Daemon, people: list[Person]) -> None:
    """A job whose GPUs are not reserved, or an id that no scheduler has, leads to a new reservation."""
    for name in ("17", "../1", "x" * 200):
        done = run(three, "slurm", people[0], *COMMAND, "run", "--", "sh", "-c", SHOW, SLURM_JOB_ID=name)
        assert len(shown(done)) == 2


def test_the_job_counts_more_than_the_shell_that_submitted_it(three: Daemon, people: list[Person]) -> None:
    """A job inherits the variables of a reservation made before: its run uses the job's GPUs anyway."""
    assert three.run("reserve", "--gpus", "1", person=people[0]).returncode == 0
    rows = Client(str(three.folder / "s")).get("/v1/reservations")
    former = rows[0]["id"]
    with job(three, "pbs", people[0], [1]) as held:
        words = (*COMMAND, "run", "--", "sh", "-c", SHOW)
        done = run(three, "pbs", people[0], *words, CANHAZGPU_RESERVATION=former)
        assert shown(done) == (uuids(three, 1), held)
