"""Which jobs pbs_mom has on this node: it keeps a file of each in mom_priv/jobs, from before the prologue."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from canhazgpu.cli.jobs.system_log import warn
from canhazgpu.events.reservations import PBS
from canhazgpu.events.sanitize import printable

if TYPE_CHECKING:
    from canhazgpu.cli.jobs.reconcile import OnNode

LONGEST = 300


def with_file(home: str) -> OnNode:
    """Return what says which jobs have a file below Torque's directory."""
    folder = Path(home, "mom_priv", "jobs")

    def here(jobs: set[str]) -> set[str] | None:
        try:
            files = {_sequence(path.stem) for path in folder.iterdir() if path.suffix == ".JB"}
        except OSError as error:
            warn(PBS, f"pbs.home: {printable(str(folder), LONGEST)}: {error.strerror}")
            return None
        return {job for job in jobs if _sequence(job) in files}

    return here


def among(named: set[str]) -> OnNode:
    """Return what says that exactly these jobs are on this node."""
    return lambda jobs: jobs & named


def _sequence(name: str) -> str:
    """Return the number of a job. That of the task of an array is 17[3], or 17-3 in the name of a file."""
    return name.partition(".")[0].replace("[", "-").replace("]", "")
