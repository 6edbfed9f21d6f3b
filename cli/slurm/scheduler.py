"""Slurm's own commands: what is told about a job, and which jobs are on this node.

Slurm advises against them in prologs, because they ask its controller: they run only if something is wrong.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable

from canhazgpu.cli.jobs.system_log import warn
from canhazgpu.events.reservations import SLURM
from canhazgpu.events.sanitize import printable

PATIENCE = 10.0  # Seconds for a controller that is busy.
# Seconds for the end of the job to reach slurmd, which then does not start it after the prolog.
ARRIVES = 2.0
LONGEST = 300  # Characters of a comment.


class SlurmFailed(Exception):
    """A command of Slurm's failed; the message is the last line that it printed."""


def send_back(job: str, reason: str) -> str:
    """Requeue a job, or end it if it cannot be requeued; `reason` becomes its AdminComment.

    Returns what happened to it. The prolog must exit with 0 afterwards. Raises SlurmFailed.
    """
    name = _name(job)
    comment(job, reason, name=name)
    try:
        _scontrol("requeue", name)
        done = "requeued"
    except SlurmFailed:  # srun, salloc, or --no-requeue.
        with contextlib.suppress(SlurmFailed):
            _scontrol("notify", name, f"canhazgpu: {printable(reason, LONGEST)}")
        _run("scancel", name)
        done = "cancelled"
    time.sleep(ARRIVES)
    return done


def comment(job: str, text: str, *, name: str = "") -> None:
    """Write the AdminComment of a job. Raises SlurmFailed."""
    _scontrol("update", f"JobId={name or _name(job)}", f"AdminComment=canhazgpu: {printable(text, LONGEST)}")


def jobs_on(node: str) -> set[str]:
    """Return the ids of the jobs that are on a node, those that are just ending too. Raises SlurmFailed."""
    return set(_run("squeue", "--noheader", f"--nodelist={node}", "--format=%A").split())


def on_node(node: str) -> Callable[[set[str]], set[str] | None]:
    """Return what says which jobs are on a node, or None, with a warning, if Slurm does not tell."""

    def here(jobs: set[str]) -> set[str] | None:
        try:
            return jobs & jobs_on(node)
        except SlurmFailed as failed:
            warn(SLURM, f"Slurm does not say which jobs are on {node}: {failed}")
            return None

    return here


def _name(job: str) -> str:
    """Return how to name a job: a task of an array as ARRAY_TASK, because its id can mean the whole array."""
    for line in _scontrol("--oneliner", "show", "job", job).splitlines():
        facts = dict(word.split("=", 1) for word in line.split() if "=" in word)
        if facts.get("JobId") == job and "ArrayTaskId" in facts:
            return f"{facts['ArrayJobId']}_{facts['ArrayTaskId']}"
    return job


def _scontrol(*words: str) -> str:
    return _run("scontrol", *words)


def _run(*words: str) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SlurmFailed(f"{words[0]}: {getattr(error, 'strerror', None) or 'no answer'}") from error
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise SlurmFailed(f"{words[0]}: {printable(said[-1], LONGEST)}")
    return done.stdout
