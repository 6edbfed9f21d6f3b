"""Whether Slurm and PBS, if they are on this host, reserve the GPUs of their jobs."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from canhazgpu.cli.jobs.mom_priv import mom_priv
from canhazgpu.config.settings import Settings
from canhazgpu.events.sanitize import printable

Finding = tuple[str, str, str]
SLURM_CONF = "/etc/slurm/slurm.conf"
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
LINE = re.compile(r"^[ \t]*(\w+)[ \t]*=?[ \t]*([^#\n]*?)[ \t]*(?:#.*)?$", re.MULTILINE)
LONGEST = 300  # Characters of a path.
OURS = "canhazgpu"
SLURM_REMEDY = "canhazgpu install slurm, and `Include canhazgpu.conf` in slurm.conf"
PBS_REMEDY = "canhazgpu install pbs"


def schedulers(_settings: Settings) -> Iterator[Finding]:
    """Check the files that `install slurm` and `install pbs` write, and the lines that name them."""
    folder = mom_priv()
    if not shutil.which("slurmd", path=PATH) and not folder:
        yield "ok", "neither Slurm nor PBS is installed", ""
    if shutil.which("slurmd", path=PATH):
        yield from _checked("Slurm", _of_slurm, Path(os.environ.get("SLURM_CONF") or SLURM_CONF))
    if folder:
        yield from _checked("PBS", _of_pbs, folder)


def _checked(name: str, check: Callable[[Path], Iterator[Finding]], path: Path) -> Iterator[Finding]:
    try:
        found = list(check(path))
    except FileNotFoundError as error:
        yield "ok", f"{name} is not set up on this host: there is no {_file(error)}", ""
    except PermissionError as error:
        yield "skip", f"{name}: {_file(error)} cannot be read", "run this as root"
    else:
        yield from found or [("ok", f"{name} reserves the GPUs of its jobs", "")]


def _file(error: OSError) -> str:
    return printable(str(error.filename), LONGEST)


def _of_slurm(conf: Path) -> Iterator[Finding]:
    lines = _slurm_lines(conf)
    for key, lack in (
        ("prolog", "Slurm does not reserve the GPUs of its jobs: its Prolog does not run canhazgpu"),
        ("epilog", "Slurm does not release the GPUs of its jobs: its Epilog does not run canhazgpu"),
        ("healthcheckprogram", "after a boot, GPUs of Slurm's jobs can stay reserved: no HealthCheckProgram"),
    ):
        if not any(_is_ours(value) for value in lines.get(key, [])):
            yield "warn", lack, SLURM_REMEDY
            return
    flags = ",".join(lines.get("prologflags", [])).lower().split(",")
    if "alloc" not in flags:
        yield "warn", "GPUs of `salloc` are reserved late: PrologFlags lacks Alloc", SLURM_REMEDY


def _slurm_lines(conf: Path) -> dict[str, list[str]]:
    """Return the values in slurm.conf and in the files that it includes, by key in small letters."""
    found: dict[str, list[str]] = {}
    for key, value in LINE.findall(conf.read_text(errors="replace")):
        if key.lower() == "include" and (conf.parent / value) != conf:
            included = conf.parent / value
            for inner, more in _slurm_lines(included).items() if included.is_file() else ():
                found.setdefault(inner, []).extend(more)
        else:
            found.setdefault(key.lower(), []).append(value)
    return found


def _of_pbs(folder: Path) -> Iterator[Finding]:
    if (folder / "hooks").is_dir():
        hooks = [path for path in sorted((folder / "hooks").iterdir()) if path.suffix == ".PY"]
        if not any(OURS in path.read_text(errors="replace") for path in hooks):
            yield "warn", "OpenPBS does not reserve the GPUs of its jobs: there is no hook for it", PBS_REMEDY
        return
    for name, what in (("prologue", "reserve"), ("epilogue", "release")):
        if not _is_ours(str(folder / name)):
            lack = f"Torque does not {what} the GPUs of its jobs: its {name} does not run canhazgpu"
            yield "warn", lack, PBS_REMEDY
            return
    config = folder / "config"
    if not config.is_file() or f"{OURS}-reconcile" not in config.read_text(errors="replace"):
        lack = "after a boot, GPUs of Torque's jobs can stay reserved: no $node_check_script"
        yield "warn", lack, f"add `$node_check_script {folder}/canhazgpu-reconcile` to {config}"


def _is_ours(script: str) -> bool:
    """Return whether a script exists and runs canhazgpu."""
    path = Path(script)
    return path.is_file() and OURS in path.read_text(errors="replace")
