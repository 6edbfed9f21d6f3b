"""`canhazgpu install slurm`: the scripts that slurmd runs, and the lines of slurm.conf that name them."""

import os
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Annotated

import typer

from canhazgpu.cli.arguments import non_empty
from canhazgpu.cli.operations.host_files import EXECUTABLE, READABLE, shown, write
from canhazgpu.cli.operations.scheduler_scripts import check, plain
from canhazgpu.cli.output import examples

EPILOG = examples("canhazgpu install slurm", "canhazgpu install slurm --to /opt/slurm/etc")
FOLDER = "/etc/slurm"
CONF = "canhazgpu.conf"
PATH = ("/usr/bin", "/bin", "/usr/sbin", "/sbin")  # slurmd sets none.
SCRIPT = """\
#!/bin/sh
# {about} Written by `canhazgpu install slurm`.
PATH={path}
export PATH
{guard}{config}exec {program} slurm {verb}
"""
LINES = """\
# canhazgpu reserves the GPUs of each job. Written by `canhazgpu install slurm`.
Prolog={folder}/canhazgpu-prolog
Epilog={folder}/canhazgpu-epilog
PrologFlags=Alloc
HealthCheckProgram={folder}/canhazgpu-reconcile
HealthCheckInterval=60
"""
GUARD = '[ -n "$SLURM_JOB_GPUS" ] || exit 0\n'
SCRIPTS = {
    "prolog": "Reserves the GPUs of a job.",
    "epilog": "Releases the GPUs of a job.",
    "reconcile": "Releases the GPUs of jobs that are no longer on this node.",
}


def slurm(
    *,
    to: Annotated[
        str | None,
        typer.Option("--to", help="Write into this directory.", metavar="DIR", callback=non_empty),
    ] = None,
) -> None:
    """Write the prolog and the epilog for Slurm, and the lines for slurm.conf.

    The files are written to the directory of slurm.conf: /etc/slurm, or the one in $SLURM_CONF. slurm.conf is
    not changed. An existing file is kept with the suffix .bak.
    """
    conf = os.environ.get("SLURM_CONF")
    folder = Path(to or (Path(conf).parent if conf else FOLDER)).absolute()
    program = Path(sysconfig.get_path("scripts"), "canhazgpu")
    check(folder, program, "slurm.conf", "slurmd")
    config = os.environ.get("CANHAZGPU_CONFIG")
    for name, text in files(folder, program, Path(config).absolute() if config else None).items():
        write(folder / name, text, READABLE if name == CONF else EXECUTABLE)
    sys.stdout.write(
        f"Next: add the line `Include {CONF}` to {shown(folder)}/slurm.conf, then restart slurmctld and"
        " slurmd.\nIf slurm.conf already has these keys, change their values there instead:\n"
    )
    sys.stdout.writelines(f"  {line}\n" for line in LINES.format(folder=folder).splitlines()[1:])


def files(folder: Path, program: Path, config: Path | None) -> dict[str, str]:
    """Return the texts of the files in the directory of slurm.conf, by name."""
    setting = f"CANHAZGPU_CONFIG={plain(config)}\nexport CANHAZGPU_CONFIG\n" if config else ""
    found = {CONF: LINES.format(folder=folder)}
    for verb, about in SCRIPTS.items():
        guard = "" if verb == "reconcile" else GUARD
        found[f"canhazgpu-{verb}"] = SCRIPT.format(
            guard=guard, about=about, path=_path(), config=setting, program=program, verb=verb
        )
    return found


def _path() -> str:
    """Return where the scripts find Slurm's commands."""
    found = shutil.which("scontrol")
    own = [str(Path(found).parent)] if found else []
    return ":".join(dict.fromkeys([*own, *PATH]))
