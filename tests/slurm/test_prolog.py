"""What a real Slurm and the service agree on: whose the GPUs of a job are, from its start to its end."""

import re

import pytest
from support.daemon import until, use
from support.people import Person
from support.slurm import GPUS, Slurm, cards

from canhazgpu.client import Client

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(180)]
HELD = re.compile(r"GPU (\d+): IN USE by (\S+) \(job (\d+)\)")


def held(node: Slurm) -> dict[int, tuple[str, str]]:
    """Return the user and the job of each GPU that a job holds."""
    return {int(gpu): (user, job) for gpu, user, job in HELD.findall(node.daemon.status())}


def reservations(node: Slurm) -> set[str]:
    """Return the ids of all reservations."""
    return {row["id"] for row in Client(str(node.daemon.folder / "s")).get("/v1/reservations")}


def test_the_gpus_of_a_job_are_its_users_until_it_ends(node: Slurm, persons: list[Person]) -> None:
    """A job holds the GPUs whose device files Slurm gave it, and no longer than it lasts."""
    output = node.folder / "out" / "files"
    script = "echo $SLURM_JOB_GPUS; sleep 600"
    job = node.submit(persons[0], "--gres=gpu:2", f"--output={output}", script=script)
    until(lambda: output.exists() and output.read_text().strip(), 60)
    numbers = {int(number) for number in output.read_text().strip().split(",")}
    gpus = {GPUS - 1 - number for number in numbers}  # By minor number.
    assert held(node) == dict.fromkeys(gpus, (persons[0].name, job))
    node.run("scancel", job)
    until(lambda: not held(node), 60)


def test_several_jobs_of_one_user_and_an_array(node: Slurm, persons: list[Person]) -> None:
    """Each job and each task of an array holds its own GPU; the end of one leaves the others."""
    single = node.submit(persons[0], "--gres=gpu:1")
    array = node.submit(persons[0], "--gres=gpu:1", "--array=1-3")
    until(lambda: len(held(node)) == GPUS, 90)
    jobs = {job for _, job in held(node).values()}
    assert len(jobs) == GPUS
    assert single in jobs
    node.run("scancel", f"{array}_2")
    until(lambda: len(held(node)) == GPUS - 1, 60)
    assert single in {job for _, job in held(node).values()}


def test_a_job_without_gpus_reserves_nothing(node: Slurm, persons: list[Person]) -> None:
    """A job that has no GPU runs, and holds none."""
    job = node.submit(persons[0], script="true")
    node.until_state(job, "COMPLETED")
    assert held(node) == {}
    assert node.node_state() == "idle"


def test_run_takes_nothing_that_slurm_gave_away(node: Slurm, persons: list[Person]) -> None:
    """`canhazgpu run` is refused the GPUs of a job, and gets one when the job has ended."""
    job = node.submit(persons[0], "--gres=gpu:4")
    until(lambda: len(held(node)) == GPUS, 60)
    done = node.daemon.run("run", "--gpus", "1", "--nonblock", "--", "true", person=persons[1])
    assert "4 GPUs reserved" in done.stderr
    node.run("scancel", job)
    waited = node.daemon.run("run", "--gpus", "1", "--wait", "--", "true", person=persons[1])
    assert waited.returncode == 0, waited.stderr


def test_a_job_whose_gpu_is_held_goes_back_to_the_queue(node: Slurm, persons: list[Person]) -> None:
    """It is requeued, its AdminComment names the holder, the node stays in service, and it starts later."""
    assert node.daemon.run("reserve", "--gpu-ids", "0-3", person=persons[1]).returncode == 0
    job = node.submit(persons[0], "--gres=gpu:1")
    until(lambda: "AdminComment" in node.facts(job), 60)
    comment = node.facts(job)["AdminComment"]
    assert comment.startswith("canhazgpu: ")
    assert f"reserved by {persons[1].name}" in comment
    until(lambda: int(node.facts(job).get("Restarts", "0")) > 0, 60)
    assert "drain" not in node.node_state()
    assert held(node) == {}
    assert node.daemon.run("release", person=persons[1]).returncode == 0
    until(lambda: list(held(node).values()) == [(persons[0].name, job)], 90)


def test_one_task_of_an_array_is_sent_back_alone(node: Slurm, persons: list[Person]) -> None:
    """The id of an array is also that of one of its tasks: only that task is requeued."""
    assert node.daemon.run("reserve", "--gpu-ids", "0-1", person=persons[1]).returncode == 0
    array = node.submit(persons[0], "--gres=gpu:1", "--array=1-4")
    until(lambda: len(held(node)) == 2, 90)
    running = {job for _, job in held(node).values()}
    until(lambda: sum("AdminComment" in node.facts(f"{array}_{task}") for task in range(1, 5)) == 2, 60)
    assert {job for _, job in held(node).values()} == running


def test_a_job_that_cannot_be_requeued_is_told_why_and_ends(node: Slurm, persons: list[Person]) -> None:
    """`srun` prints the reason; a batch job with --no-requeue has it in its AdminComment."""
    assert node.daemon.run("reserve", "--gpu-ids", "0-3", person=persons[1]).returncode == 0
    said = node.run("srun", "--gres=gpu:1", "true", person=persons[0], check=False)
    assert f"reserved by {persons[1].name}" in said
    job = node.submit(persons[0], "--gres=gpu:1", "--no-requeue")
    node.until_state(job, "CANCELLED")
    assert f"reserved by {persons[1].name}" in node.facts(job)["AdminComment"]
    assert "drain" not in node.node_state()


def test_a_requeued_job_holds_its_new_gpus_only(node: Slurm, persons: list[Person]) -> None:
    """After `scontrol requeue`, the job has what it had, once."""
    job = node.submit(persons[0], "--gres=gpu:2")
    until(lambda: len(held(node)) == 2, 60)
    before = reservations(node)
    node.run("scontrol", "requeue", job)
    until(lambda: len(held(node)) == 2 and not before & reservations(node), 120)
    assert {job for _, job in held(node).values()} == {job}


def test_a_job_cancelled_during_its_prolog_leaves_nothing(node: Slurm, persons: list[Person]) -> None:
    """A job is cancelled while its prolog waits for a GPU: when the GPU is free, nobody has it."""
    assert node.daemon.run("reserve", "--gpu-ids", "0-3", person=persons[1]).returncode == 0
    job = node.submit(persons[0], "--gres=gpu:1")
    until(lambda: f"job {job}" in node.daemon.run("queue", "--json").stdout, 60)
    node.run("scancel", job)
    assert node.daemon.run("release", person=persons[1]).returncode == 0
    until(lambda: node.state(job) == "CANCELLED" and node.node_state() == "idle", 90)
    assert held(node) == {}
    assert node.daemon.run("queue", "--json").stdout.strip() == "[]"


def test_processes_of_the_job_are_no_violation(node: Slurm, persons: list[Person]) -> None:
    """What a job runs on its GPUs is its user's."""
    output = node.folder / "out" / "pid"
    node.submit(persons[0], "--gres=gpu:4", f"--output={output}", script="echo $$; exec sleep 600")
    until(lambda: output.exists() and output.read_text().strip(), 60)
    pid = int(output.read_text())
    other = persons[1].spawn("sleep", "600")
    try:
        node.daemon.place(*cards((0, use(pid, 900)), (1, use(other.pid, 900))))
        facts = until(node.daemon.facts, 30)  # By then the job's would be one too.
        assert {fact["gpu"] for fact in facts} == {1}
        (line,) = [line for line in node.daemon.status().splitlines() if line.startswith("GPU 0:")]
        assert "[validated: 900MB" in line
        assert "also used by" not in line
    finally:
        other.kill()
        other.wait()
