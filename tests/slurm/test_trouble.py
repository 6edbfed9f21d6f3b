"""What becomes of jobs and their GPUs when the service, slurmd or the node goes away."""

import os
import re
import signal
import time
from pathlib import Path

import pytest
from support.daemon import until
from support.hosts import changed_setting
from support.people import Person
from support.slurm import GPUS, NODE, Slurm

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(180)]
HELD = re.compile(r"GPU \d+: IN USE by \S+ \(job (\d+)\)")


def held(node: Slurm) -> list[str]:
    """Return the job of each GPU that a job holds."""
    return HELD.findall(node.daemon.status())


def notes(node: Slurm) -> list[Path]:
    """Return the files of the jobs that the prolog has noted."""
    return sorted((node.daemon.folder / "jobs").glob("[0-9]*"))


def reconcile(node: Slurm) -> str:
    """Run `slurm reconcile` as slurmd does, a while after the last prolog; return what it says."""
    for path in notes(node):
        os.utime(path, (time.time() - 100, time.time() - 100))
    return node.run(str(node.folder / "canhazgpu-reconcile"))


def test_a_service_that_comes_back_in_time_reserves(node: Slurm, persons: list[Person]) -> None:
    """The prolog asks again until the service is there, and the job is reserved as always."""
    with changed_setting(node.daemon, 'wait = "4s"', 'wait = "60s"'):
        node.daemon.stop(signal.SIGKILL)
        job = node.submit(persons[0], "--gres=gpu:1")
        until(lambda: notes(node), 60)
        node.daemon.start()
        until(lambda: held(node) == [job], 60)
    assert "AdminComment" not in node.facts(job)


def test_without_the_service_a_job_starts_and_is_reserved_later(node: Slurm, persons: list[Person]) -> None:
    """It starts with a warning in its AdminComment; when the service is back, `reconcile` reserves."""
    node.daemon.stop()
    try:
        job = node.submit(persons[0], "--gres=gpu:2")
        node.until_state(job, "RUNNING")
        until(lambda: "not reserved yet" in node.facts(job).get("AdminComment", ""), 60)
    finally:
        node.daemon.start()
    until(lambda: node.daemon.status().count("AVAILABLE") == GPUS)
    assert reconcile(node) == f"Reserved the GPUs of job {job}\n"
    assert held(node) == [job, job]
    assert reconcile(node) == ""


def test_without_the_service_the_node_is_drained_if_so_set(node: Slurm, persons: list[Person]) -> None:
    """The job is requeued in a held state, and starts after the node has been resumed."""
    with changed_setting(node.daemon, "[slurm]\n", '[slurm]\nunreachable = "drain"\n'):
        node.daemon.stop()
        try:
            job = node.submit(persons[0], "--gres=gpu:1")
            until(lambda: "drain" in node.node_state(), 90)
            until(lambda: node.facts(job).get("Reason") == "launch_failed_requeued_held", 60)
            assert notes(node) == []
        finally:
            node.daemon.start()
    node.run("scontrol", "update", f"NodeName={NODE}", "State=RESUME")
    node.run("scontrol", "release", job)
    until(lambda: held(node) == [job], 90)


def test_an_epilog_without_the_service_is_made_up_for(node: Slurm, persons: list[Person]) -> None:
    """The node stays in service; the next prolog releases what is in its way, `reconcile` the rest."""
    former = node.submit(persons[0], "--gres=gpu:4")
    until(lambda: held(node) == [former] * 4, 60)
    node.daemon.stop(signal.SIGKILL)
    node.run("scancel", former)
    until(lambda: node.node_state() == "idle", 60)
    node.daemon.start()
    assert held(node) == [former] * 4
    job = node.submit(persons[1], "--gres=gpu:1")
    until(lambda: held(node) == [job], 90)


def test_after_a_boot_nothing_is_left(node: Slurm, persons: list[Person]) -> None:
    """What jobs held before the node rebooted is released, once Slurm knows that they are gone."""
    job = node.submit(persons[0], "--gres=gpu:2", "--no-requeue")
    until(lambda: held(node) == [job, job], 60)
    node.end("slurmd", signal.SIGKILL)
    node.end_steps()
    for path in notes(node):
        path.unlink()
    assert reconcile(node) == ""  # Slurm still has the job here.
    # What slurmctld does by itself when it notices, after SlurmdTimeout at the latest.
    node.run("scontrol", "update", f"NodeName={NODE}", "State=DOWN", "Reason=boot")
    node.until_state(job, "NODE_FAIL")
    until(lambda: reconcile(node), 60)
    assert held(node) == []
    node.start("slurmd", "-b")

    def is_back() -> bool:  # slurmctld may resume it by itself, and then refuses to.
        node.run("scontrol", "update", f"NodeName={NODE}", "State=RESUME", check=False)
        return node.node_state() == "idle"

    until(is_back, 60)


def test_a_job_outlives_slurmd(node: Slurm, persons: list[Person]) -> None:
    """A restart of slurmd changes nothing, and the end of the job releases its GPUs as always."""
    job = node.submit(persons[0], "--gres=gpu:1")
    until(lambda: held(node) == [job], 60)
    node.end("slurmd")
    assert held(node) == [job]
    node.start("slurmd")
    until(lambda: node.node_state() == "mixed", 60)
    assert reconcile(node) == ""
    assert (node.state(job), held(node)) == ("RUNNING", [job])
    node.run("scancel", job)
    until(lambda: not held(node), 60)


def test_a_job_whose_epilog_never_ran_is_forgotten(node: Slurm, persons: list[Person]) -> None:
    """A note of a job that Slurm does not have on the node is removed, with its reservation."""
    job = node.submit(persons[0], "--gres=gpu:1")
    until(lambda: held(node) == [job], 60)
    (note,) = notes(node)
    kept = note.read_bytes()
    node.run("scancel", job)
    until(lambda: not held(node) and node.node_state() == "idle", 60)
    note.write_bytes(kept)
    assert reconcile(node) == ""
    assert (notes(node), held(node)) == ([], [])
