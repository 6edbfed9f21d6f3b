"""Torque: the prologue and the epilogue, run as pbs_mom does with a service behind them."""

import signal
import subprocess
from collections.abc import Iterator

import pytest
from support.daemon import COMMAND, until, use
from support.hosts import changed_setting
from support.pbs import GPUS, Mom, cards, clear, mom
from support.people import Person

from canhazgpu.client import Client

JOB = "4711.head.example"


@pytest.fixture(scope="module")
def service() -> Iterator[Mom]:
    """A node of four GPUs whose device files count the other way round."""
    with mom() as found:
        yield found


@pytest.fixture
def node(service: Mom) -> Iterator[Mom]:
    """The same, with nothing reserved in the end."""
    yield service
    service.daemon.place(*cards())
    clear(service)


def test_a_job_holds_its_gpus_until_the_epilogue(node: Mom, people: list[Person]) -> None:
    """The lines of its GPU file are NVML's indices; its user cannot release them, and `run` gets others."""
    done = node.prologue(JOB, people[0], "0", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert node.held == {JOB: [0, 1]}
    assert f"GPU 1: IN USE by {people[0].name} (job {JOB}) for" in node.daemon.status()
    assert "(pbs, until the job ends)" in node.daemon.status()
    assert "released when the job ends" in node.daemon.run("release", "0", person=people[0]).stderr
    done = node.daemon.run("run", "--gpus", "3", "--nonblock", "--", "true")
    assert "2 GPUs reserved" in done.stderr
    assert "GPU 0 is reserved" in node.daemon.run("reserve", "--gpu-ids", "0", "--nonblock").stderr
    done = node.epilogue(JOB, people[0])
    assert (done.returncode, done.stderr, node.held) == (0, "", {})
    assert list(node.notes.glob("*")) == []


def test_a_job_without_gpus_runs_without_the_service(node: Mom, people: list[Person]) -> None:
    """No GPU file: both scripts end with 0 and say nothing, even if no service answers."""
    node.daemon.stop()
    try:
        for done in (node.prologue(JOB, people[0]), node.epilogue(JOB, people[0])):
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    finally:
        node.daemon.start()


def test_gpus_on_other_nodes_are_theirs(node: Mom, people: list[Person]) -> None:
    """Of a job on several nodes, only the GPUs on this one are reserved."""
    assert node.prologue(JOB, people[0], "0", "node2-gpu1", "node1.example-gpu2").returncode == 0
    assert node.held == {JOB: [0, 2]}


def test_a_job_whose_gpu_is_held_goes_back_to_the_queue(node: Mom, people: list[Person]) -> None:
    """The exit code is 2, which means requeue; the reason names the holder; the rest stays free."""
    assert node.daemon.run("reserve", "--gpu-ids", "0", person=people[1]).returncode == 0
    done = node.prologue(JOB, people[0], "0", "1")
    assert done.returncode == 2
    assert f"job {JOB} goes back to the queue: Not available: GPU 0 is reserved by" in done.stderr
    assert people[1].name in done.stderr
    assert (node.held, list(node.notes.glob("*"))) == ({}, [])


def test_a_gpu_that_somebody_uses_is_not_free(node: Mom, people: list[Person]) -> None:
    """A job is sent back from a GPU that another user uses without a reservation."""
    process = people[1].spawn("sleep", "600")
    node.daemon.place(*cards((0, use(process.pid, 900))))
    until(lambda: "WITHOUT RESERVATION" in node.daemon.status())
    done = node.prologue(JOB, people[0], "0")
    assert (done.returncode, node.held) == (2, {})
    assert "in use" in done.stderr


def test_tasks_of_an_array_hold_gpus_side_by_side(node: Mom, people: list[Person]) -> None:
    """Each has its own id, and the end of one leaves the other's."""
    for task in range(2):
        assert node.prologue(f"17[{task}].head", people[0], str(task)).returncode == 0
    node.epilogue("17[0].head", people[0])
    assert node.held == {"17[1].head": [1]}


def test_an_id_that_is_too_long_for_a_label_is_shortened(node: Mom, people: list[Person]) -> None:
    """A server's name of 140 characters: the job starts, `run` in it and `reconcile` know it, and it ends."""
    first, second = (f"4711.{'head.' * 27}{end}" for end in ("one.x", "two.x"))
    for number, job in enumerate((first, second)):
        done = node.prologue(job, people[0], str(number))
        assert (done.returncode, done.stderr) == (0, "")
    (short, _) = held = node.held
    assert list(held.values()) == [[0], [1]]
    words = people[0].command(
        "env", f"PBS_JOBID={second}", *COMMAND, "run", "--", "printenv", "CANHAZGPU_RESERVATION"
    )
    run = subprocess.run(words, env=node.daemon.environment, capture_output=True, text=True, check=False)
    rows = Client(str(node.daemon.folder / "s")).get("/v1/reservations")
    (mine,) = (row["id"] for row in rows if row["gpus"] == [1])
    assert (run.stdout, run.stderr) == (f"{mine}\n", "")
    node.settle()
    assert (node.script("reconcile").stdout, node.held) == ("", held)
    assert node.epilogue(second, people[0]).returncode == 0
    assert node.held == {short: [0]}
    node.epilogue(first, people[0])
    assert (node.held, list(node.notes.glob("*"))) == ({}, [])


def test_a_job_that_is_requeued_holds_its_new_gpus_only(node: Mom, people: list[Person]) -> None:
    """Without an epilogue in between, the same job with other GPUs loses the former ones."""
    node.prologue(JOB, people[0], "0", "1")
    node.prologue(JOB, people[0], "3")
    assert node.held == {JOB: [3]}


def test_a_gpu_that_this_node_does_not_have(node: Mom, people: list[Person]) -> None:
    """The job goes back to the queue, and the reason names the GPU."""
    done = node.prologue(JOB, people[0], "7")
    assert (done.returncode, node.held) == (2, {})
    assert "this host has no GPU 7" in done.stderr


def test_without_the_service_a_job_starts_and_is_reserved_later(node: Mom, people: list[Person]) -> None:
    """It starts with a warning; when the service is back, `reconcile` reserves, once."""
    node.daemon.stop(signal.SIGKILL)
    try:
        done = node.prologue(JOB, people[0], "0", "1")
        assert done.returncode == 0
        assert f"job {JOB} starts, but its GPUs are not reserved yet" in done.stderr
    finally:
        node.daemon.start()
    until(lambda: node.daemon.status().count("AVAILABLE") == GPUS)
    node.settle()
    assert node.script("reconcile").stdout == f"Reserved the GPUs of job {JOB}\n"
    assert node.held == {JOB: [0, 1]}
    assert node.script("reconcile").stdout == ""


def test_without_the_service_a_job_is_requeued_if_so_set(node: Mom, people: list[Person]) -> None:
    """With pbs.unreachable = "requeue" the exit code is 2, and nothing is noted."""
    node.daemon.stop()
    try:
        with changed_setting(node.daemon, "[pbs]\n", '[pbs]\nunreachable = "requeue"\n'):
            done = node.prologue(JOB, people[0], "0")
    finally:
        node.daemon.start()
    assert done.returncode == 2
    assert "goes back to the queue" in done.stderr
    assert list(node.notes.glob("*")) == []


def test_an_epilogue_without_the_service_is_made_up_for(node: Mom, people: list[Person]) -> None:
    """It ends with 0; the next prologue releases what is in its way, and `reconcile` the rest."""
    node.prologue(JOB, people[0], "0")
    node.prologue("4712.head", people[0], "1")
    node.daemon.stop()
    for job in (JOB, "4712.head"):
        done = node.epilogue(job, people[0])
        assert (done.returncode, "GPUs are still reserved" in done.stderr) == (0, True)
        node.forget(job)
    node.daemon.start()
    assert set(node.held) == {JOB, "4712.head"}
    assert node.prologue("4713.head", people[1], "0").returncode == 0
    assert node.held == {"4713.head": [0]}


def test_after_a_boot_nothing_is_left(node: Mom, people: list[Person]) -> None:
    """Notes are gone and pbs_mom has no jobs: what they held is released. Jobs that it has keep theirs."""
    for number in range(2):
        node.prologue(f"{number}.head", people[0], str(number))
        (node.notes / f"{number}.head").unlink()
    node.forget("1.head")
    assert node.script("reconcile").stdout == "Released the GPUs of job 1.head, which is not on this node\n"
    assert node.held == {"0.head": [0]}


def test_a_job_whose_epilogue_never_ran_is_forgotten(node: Mom, people: list[Person]) -> None:
    """A note without a file in mom_priv/jobs goes away with its reservation, a while after the prologue."""
    node.prologue("9[1].head", people[0], "0")
    node.forget("9[1].head")
    assert node.script("reconcile").stdout == ""
    node.settle()
    assert (
        node.script("reconcile").stdout == "Released the GPUs of job 9[1].head, which is not on this node\n"
    )
    assert (node.held, list(node.notes.glob("*"))) == ({}, [])


def test_trouble_never_ends_a_job(node: Mom, people: list[Person]) -> None:
    """Whatever goes wrong, the exit code is not 1, which would end the job; one line says why."""
    with changed_setting(node.daemon, "[pbs]\n", "[pbs]\nunreachable = 3\n"):
        bad_settings = node.prologue(JOB, people[0], "0")
    bad_line = node.prologue("4712.head", people[0], "x-1")
    variables = {"PBS_GPUFILE": f"{node.home}/aux/{JOB}gpu", "PBS_MSHOST": "node1"}
    no_user = node.script("prologue", JOB, "no-such-user", "g", **variables)
    no_id = node.script("prologue", "../x", people[0].name, "g", **variables)
    for done, said in (
        (bad_settings, "pbs.unreachable"),
        (bad_line, "has the line x-1, not HOST-gpuN"),
        (no_user, "this host has no user 'no-such-user'"),
        (no_id, "run this from pbs_mom"),
    ):
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
        assert said in done.stderr
    assert node.held == {}
