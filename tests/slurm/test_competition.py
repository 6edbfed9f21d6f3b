"""Slurm and canhazgpu compete for the same GPUs, while jobs are cancelled and the service is killed.

JOBS is the number of jobs, 16 by default.
"""

import os
import random
import signal
import threading
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from support.daemon import until
from support.hosts import changed_setting
from support.people import Person
from support.slurm import GPUS, Slurm

JOBS = int(os.environ.get("JOBS") or 16)
LOOPS = 20 if JOBS >= 100 else 6
KILLS = max(1, JOBS // 40)
MOST_QUEUED = 10
pytestmark = [pytest.mark.slurm, pytest.mark.timeout(120 + 15 * JOBS)]
# What uses GPUs writes which it has, since when, and until when.
JOB = """
file={out}/job-$SLURM_JOB_ID-$(date +%s%N)
echo "begin $(date +%s%N) $SLURM_JOB_GPUS" > $file
trap 'echo "end $(date +%s%N)" >> $file; exit' TERM
sleep {seconds} & wait
echo "end $(date +%s%N)" >> $file
"""
RUN = """
file={out}/run-$$-$(date +%s%N)
echo "begin $(date +%s%N) $CUDA_VISIBLE_DEVICES" > $file
sleep {seconds}
echo "end $(date +%s%N)" >> $file
"""


class Use(NamedTuple):
    """That somebody had a GPU, in nanoseconds since 1970; `end` is None if it was killed."""

    begin: int
    end: int | None
    name: str


class Loop(threading.Thread):
    """One user's `canhazgpu run`, again and again."""

    def __init__(self, node: Slurm, person: Person, seed: int, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._node, self._person, self._random, self._ending = node, person, random.Random(seed), stop
        self.done = 0
        self.refusals: list[str] = []

    def run(self) -> None:
        """Go on until stopped."""
        while not self._ending.is_set():
            seconds = round(self._random.uniform(0.1, 1), 2)
            script = RUN.format(out=self._node.folder / "out", seconds=seconds)
            words = ["run", "--gpus", "1", "--nonblock", "--", "sh", "-c", script]
            done = self._node.daemon.run(*words, person=self._person, timeout=120)
            if done.returncode == 0:
                self.done += 1
            else:
                self.refusals.append(done.stderr)
            self._ending.wait(self._random.uniform(1, 4) * LOOPS / 6)


def uses(node: Slurm) -> dict[int, list[Use]]:
    """Return who had each GPU, in order."""
    found = defaultdict(list)
    for path in (node.folder / "out").glob("*-*"):
        lines = [line.split() for line in path.read_text().splitlines()]
        if not lines:  # It was killed as it began.
            continue
        (_, begin, devices), *ends = lines
        end = int(ends[-1][1]) if ends else None
        for device in map(int, devices.split(",")):
            index = GPUS - 1 - device if path.name.startswith("job") else device
            found[index].append(Use(int(begin), end, path.name))
    return {index: sorted(rows) for index, rows in found.items()}


def submit_all(node: Slurm, persons: list[Person], chance: random.Random) -> tuple[set[str], set[str]]:
    """Submit the jobs, cancel half of them, kill the service; return all and the cancelled."""
    jobs: set[str] = set()
    cancelled: set[str] = set()
    timers = []
    for number in range(JOBS):
        until(lambda: len(node.run("squeue", "--noheader").splitlines()) < MOST_QUEUED, 300)
        script = JOB.format(out=node.folder / "out", seconds=round(chance.uniform(0.1, 2), 2))
        gpus = chance.choice([1, 1, 1, 2])
        job = node.submit(persons[number % len(persons)], f"--gres=gpu:{gpus}", script=script)
        jobs.add(job)
        if number % 2:
            cancelled.add(job)
            timers.append(
                threading.Timer(chance.uniform(0, 12), node.run, ("scancel", job), {"check": False})
            )
            timers[-1].start()
        if (number + 1) % (JOBS // KILLS) == JOBS // KILLS // 2:
            node.daemon.stop(signal.SIGKILL)
            node.daemon.start()
    for timer in timers:
        timer.join()
    return jobs, cancelled


def test_no_gpu_has_two_users_and_none_is_left_behind(node: Slurm, persons: list[Person]) -> None:
    """Jobs and runs never share a GPU, all are free in the end, and each refusal has a reason."""
    stop = threading.Event()
    loops = [Loop(node, persons[number % 4], number, stop) for number in range(LOOPS)]
    # Slurm begins with this GPU, which root holds: some jobs are sent back in any case.
    held = node.daemon.run("reserve", "--gpu-ids", str(GPUS - 1), "--duration", "40s")
    assert held.returncode == 0, held.stderr
    for loop in loops:
        loop.start()
    began = time.monotonic()
    try:
        with changed_setting(node.daemon, 'wait = "4s"', 'wait = "15s"'):
            jobs, cancelled = submit_all(node, persons, random.Random(JOBS))
            until(lambda: not node.run("squeue", "--noheader"), 120 + 5 * JOBS, "for the jobs to end")
    finally:
        stop.set()
        for loop in loops:
            loop.join(120)
    _report(node, jobs, loops, time.monotonic() - began)
    found = uses(node)
    for index, rows in found.items():
        for first, second in pairwise(rows):
            assert first.end is None or first.end <= second.begin, f"GPU {index}: {first} and {second}"
    _judge_jobs(node, jobs, cancelled)
    for loop in loops:
        for said in loop.refusals:
            assert said.count("\n") == 1, said
            assert "Not enough GPUs" in said or "does not answer" in said or "service" in said, said
    until(lambda: node.daemon.status().count("AVAILABLE") == GPUS, 30)
    assert not list((node.daemon.folder / "jobs").glob("[0-9]*"))
    assert node.daemon.run("queue", "--json").stdout.strip() == "[]"
    until(lambda: node.node_state() == "idle", 60)


def _judge_jobs(node: Slurm, jobs: set[str], cancelled: set[str]) -> None:
    """Each job ended as it should, and those that were sent back say why."""
    for job in jobs:
        facts = node.facts(job)
        assert facts["JobState"] == "COMPLETED" or job in cancelled, facts
        assert "not reserved yet" not in facts.get("AdminComment", "")
        if facts["Restarts"] != "0":
            assert facts.get("AdminComment", "").startswith("canhazgpu: Not available: GPU"), facts


def _report(node: Slurm, jobs: set[str], loops: list[Loop], seconds: float) -> None:
    """Write what happened to the test's output."""
    rows = [node.facts(job) for job in jobs]
    states: dict[str, int] = defaultdict(int)
    for row in rows:
        states[row["JobState"]] += 1
    back = sum(int(row["Restarts"]) for row in rows)
    refused = sum(len(loop.refusals) for loop in loops)
    ended = [use for uses_ in uses(node).values() for use in uses_]
    Path("build").mkdir(exist_ok=True)
    text = (
        f"{len(jobs)} jobs in {seconds:.0f} s: {dict(states)}, sent back {back} times;"
        f" {sum(loop.done for loop in loops)} runs, {refused} refused;"
        f" {len(ended)} uses of a GPU, {sum(use.end is None for use in ended)} killed\n"
    )
    Path("build/slurm-competition.txt").write_text(text)
