"""The job that pbs_mom runs a script for, from its arguments and from the file that lists its GPUs."""

from __future__ import annotations

import pwd
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from canhazgpu.cli.exit_codes import USAGE
from canhazgpu.cli.jobs.notes import Job
from canhazgpu.cli.jobs.system_log import warn
from canhazgpu.cli.output import fail
from canhazgpu.cli.syntax.job_id import job_id
from canhazgpu.events.reservations import PBS
from canhazgpu.events.sanitize import printable
from canhazgpu.events.spelling.gpu_numbers import is_instance

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ID = re.compile(r"[0-9]+(\[[0-9]*\])?(\.[A-Za-z0-9._-]+)?", re.ASCII)
GPU = re.compile(r"(?P<host>\S+?)(-gpu/?)(?P<index>[0-9]{1,4})", re.ASCII)
FROM_MOM = "run this from pbs_mom, which passes at least the id of the job, its user and its group"
LONGEST = 300


def id_of(arguments: Sequence[str]) -> str:
    """Return the id of the job, which is the first argument of every script."""
    if not arguments or not ID.fullmatch(arguments[0]):
        fail(FROM_MOM, USAGE)
    return arguments[0]


def job_of(arguments: Sequence[str], gpus: Sequence[int], devices: Sequence[int]) -> Job | None:
    """Return the job that a prologue is run for, or None if it has no GPU on this node..

    `arguments` are Torque's: job id, user, group, job name, limits, queue, account, script, hosts. Older
    versions pass fewer. Its GPUs are indices, or numbers of device files. A long id is shortened.
    """
    name = job_id(id_of(arguments))
    if not gpus and not devices:
        return None
    if len(arguments) < 2:  # noqa: PLR2004 - the id and the user
        fail(FROM_MOM, USAGE)
    try:
        uid = pwd.getpwnam(arguments[1]).pw_uid
    except (KeyError, ValueError):
        fail(f"job {name}: this host has no user {printable(arguments[1], LONGEST)!r}", USAGE)
    return Job(name, uid, devices=tuple(sorted(devices)), gpus=tuple(sorted(gpus)), kind=PBS)


def assigned_gpus(job: str, environ: Mapping[str, str], home: str) -> list[int]:
    """Return the indices of the GPUs that Torque has given a job on this node.

    pbs_mom writes them to the file $PBS_GPUFILE, a line HOST-gpuN for each, before it runs the prologue. It
    passes the variable only to jobs, but the name of the file is always the same.
    """
    path = Path(environ.get("PBS_GPUFILE") or f"{home}/aux/{job}gpu")
    try:
        lines = path.read_text(errors="replace").split()
    except FileNotFoundError:  # A job without GPUs.
        return []
    except OSError as error:
        fail(f"job {job}: {printable(str(path), LONGEST)}: {error.strerror}", USAGE)
    found: list[tuple[str, int]] = []
    for line in lines:
        parts = GPU.fullmatch(line)
        if not parts:
            said = printable(line, LONGEST)
            fail(f"job {job}: {printable(str(path), LONGEST)} has the line {said}, not HOST-gpuN", USAGE)
        found.append((_short(parts["host"]), int(parts["index"])))
    names = {
        _short(environ.get("PBS_MSHOST", "")) or _short(socket.gethostname()),
        _short(socket.gethostname()),
    }
    here = sorted({index for host, index in found if host in names})
    if instances := [index for index in here if is_instance(index)]:
        fail(f"job {job}: this node has no GPU {instances[0]}; Torque counts whole GPUs", USAGE)
    if found and not here:
        others = ", ".join(sorted({host for host, _ in found}))
        warn(
            PBS, f"job {job} has GPUs on {printable(others, LONGEST)}, but none on {'/'.join(sorted(names))}"
        )
    return here


def _short(host: str) -> str:
    return host.partition(".")[0].lower()
