"""`canhazgpu install pbs`: the scripts that Torque's pbs_mom runs, or the hook for OpenPBS."""

import os
import sys
import sysconfig
from importlib.resources import files as resources
from pathlib import Path
from typing import Annotated

import typer

from canhazgpu.cli.arguments import non_empty
from canhazgpu.cli.exit_codes import REFUSED
from canhazgpu.cli.jobs.mom_priv import mom_priv
from canhazgpu.cli.operations.host_files import EXECUTABLE, READABLE, shown, write
from canhazgpu.cli.operations.scheduler_scripts import check, plain
from canhazgpu.cli.output import examples, fail

EPILOG = examples("canhazgpu install pbs", "canhazgpu install pbs --to /var/spool/torque/mom_priv")
MARK = "Written by `canhazgpu install pbs`."
HOOK, SHIPPED_HOOK = "canhazgpu-hook.py", "pbs_hook.PY"
PROGRAM, CONFIG = '"/opt/canhazgpu/bin/canhazgpu"', 'CONFIG = ""'  # In the shipped hook.
EVENTS = "execjob_begin,execjob_end,execjob_abort,exechost_startup,exechost_periodic"
START = """\
#!/bin/sh
# {about} {mark}
PATH=/usr/bin:/bin:/usr/sbin:/sbin
export PATH
{config}"""
# The exit code 1 would end the job, whatever went wrong. pbs_mom runs the script in mom_priv.
PROLOGUE = """\
: "${{PBS_GPUFILE:=${{PBS_NODEFILE:-$PWD/../aux/$1}}gpu}}"
[ -s "$PBS_GPUFILE" ] || exit 0
export PBS_GPUFILE
{program} pbs prologue -- "$@"
code=$?
[ "$code" -ne 1 ] || code=2
exit "$code"
"""
BODIES = {
    "prologue": ("Reserves the GPUs of a job.", PROLOGUE),
    "epilogue": ("Releases the GPUs of a job.", 'exec {program} pbs epilogue -- "$@"\n'),
    "reconcile": (
        "Releases the GPUs of jobs that are no longer on this node.",
        "{program} pbs reconcile || true\n",
    ),
}


def pbs(
    *,
    to: Annotated[
        str | None,
        typer.Option("--to", help="Write into this directory.", metavar="DIR", callback=non_empty),
    ] = None,
) -> None:
    """Write the prologue and the epilogue for Torque, or the hook for OpenPBS.

    The files are written to mom_priv, the directory of pbs_mom. A prologue and an epilogue of your own
    stay as they are. An older file is kept with the suffix .bak.
    """
    found = to or mom_priv()
    if not found:
        fail("the directory mom_priv of PBS was not found: name it with --to", REFUSED)
    folder = Path(found).absolute()
    program = Path(sysconfig.get_path("scripts"), "canhazgpu")
    check(folder, program, "mom_priv", "pbs_mom")
    named = os.environ.get("CANHAZGPU_CONFIG")
    config = Path(named).absolute() if named else None
    if (folder / "hooks").is_dir():
        write(folder / HOOK, hook(program, config), READABLE)
        sys.stdout.write(_next_of_openpbs(folder / HOOK))
        return
    for name, text in scripts(program, config).items():
        write(folder / name, text, EXECUTABLE)
    for name in ("prologue", "epilogue"):
        _place(folder, name)
    sys.stdout.write(
        f"Next: add the line `$node_check_script {shown(folder)}/canhazgpu-reconcile` to"
        f" {shown(folder)}/config, then restart pbs_mom.\n"
    )


def scripts(program: Path, config: Path | None) -> dict[str, str]:
    """Return the texts of the scripts for Torque, by name."""
    setting = f"CANHAZGPU_CONFIG={plain(config)}\nexport CANHAZGPU_CONFIG\n" if config else ""
    return {
        f"canhazgpu-{verb}": START.format(about=about, mark=MARK, config=setting)
        + body.format(program=program)
        for verb, (about, body) in BODIES.items()
    }


def hook(program: Path, config: Path | None) -> str:
    """Return the hook for OpenPBS that runs `program`."""
    text = resources("canhazgpu.config").joinpath(SHIPPED_HOOK).read_text()
    named = f'CONFIG = "{plain(config)}"' if config else CONFIG
    return text.replace(PROGRAM, f'"{program}"').replace(CONFIG, named)


def _place(folder: Path, name: str) -> None:
    """Let pbs_mom run our script under the name that it knows, unless there is another one already."""
    path = folder / name
    if not os.path.lexists(path):
        path.symlink_to(f"canhazgpu-{name}")
        sys.stdout.write(f"Linked {shown(path)}\n")
    elif path.resolve() != (folder / f"canhazgpu-{name}").resolve():
        line = f'{shown(folder)}/canhazgpu-{name} "$@" || exit $?'
        sys.stdout.write(f"{shown(path)} exists: add this line before its other commands:\n  {line}\n")


def _next_of_openpbs(path: Path) -> str:
    return (
        "Next, on the server, once for all nodes (the program must have the same path on all of them):\n"
        f"  qmgr -c 'create hook canhazgpu event=\"{EVENTS}\"'\n"
        f"  qmgr -c 'import hook canhazgpu application/x-python default {shown(path)}'\n"
        "  qmgr -c 'set hook canhazgpu order=200,alarm=60,freq=120'\n"
    )
