"""`canhazgpu install docker` and `install podman`: runtimes then ask before they start a container."""

import json
import os
import re
import shlex
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Annotated, Any

import typer

from canhazgpu.cli.arguments import non_empty
from canhazgpu.cli.exit_codes import REFUSED
from canhazgpu.cli.operations.host_files import EXECUTABLE, is_roots, shown, write
from canhazgpu.cli.output import examples, fail

DOCKER_EPILOG = examples(
    "canhazgpu install docker", "canhazgpu install docker --to /home/alice/.config/docker"
)
PODMAN_EPILOG = examples(
    "canhazgpu install podman", "canhazgpu install podman --to /usr/share/containers/oci/hooks.d"
)
DOCKER, HOOKS, CONFIGS = "/etc/docker", "/etc/containers/oci/hooks.d", "/etc/containers/containers.conf.d"
DEFAULT_HOOKS = ("/usr/share/containers/oci/hooks.d", HOOKS)
NAME, PLAIN_RUNTIME = "canhazgpu", "runc"
SCRIPT = """\
#!/bin/sh
# Asks canhazgpu before a container starts. Written by `canhazgpu install docker`.
next={following}
program={program}
ask=
before=
for word; do
    case $word in
    create | run | restore) ask=yes && break ;;
    esac
    # Docker gives its commands in a container the variables of the container, also the token.
    [ "$before" = --process ] && grep -qs CANHAZGPU_TOKEN "$word" && ask=yes && break
    before=$word
done
if [ "$ask" ] && [ -x "$program" ]; then
    {config}"$program" oci runtime --next "$next" -- "$@" || exit 1
fi
exec "$next" "$@"
"""
UNCHECKED = "Warning: containers {} are not checked\n"
NEXT = re.compile(r"^next=(.+)$", re.MULTILINE)
ROOTLESS = """\
# Rootless Podman runs hooks only from directories that are named. Written by `canhazgpu install podman`.
[engine]
hooks_dir = {folders}
"""
TIMEOUT = 30  # Seconds; Podman ends the hook then, and does not start the container.
Folder = Annotated[
    str | None, typer.Option("--to", help="Write into this directory.", metavar="DIR", callback=non_empty)
]


def docker(*, to: Folder = None) -> None:
    """Make Docker ask canhazgpu before it starts a container.

    Writes a script for each runtime to the directory of daemon.json, /etc/docker, and sets the scripts as the
    runtimes in daemon.json. An older file is kept with the suffix .bak. The check begins when Docker is
    restarted.
    """
    folder = Path(to or DOCKER).expanduser().absolute()
    program = _program(folder, own=to is not None)
    path = folder / "daemon.json"
    settings = _read(path)
    scripts = checked_runtimes(settings, folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, following in scripts.items():
        write(folder / name, script(program, following), EXECUTABLE)
    write(path, json.dumps(settings, indent=4) + "\n")
    sys.stdout.write("Next: systemctl restart docker\n")


def podman(*, to: Folder = None) -> None:
    """Make Podman and CRI-O ask canhazgpu before they start a container.

    Writes the hook to /etc/containers/oci/hooks.d. A second file, in /etc/containers/containers.conf.d, makes
    rootless Podman read that directory. Nothing has to be restarted.
    """
    folder = Path(to or HOOKS).absolute()
    program = _program(folder, own=to is not None)
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / f"{NAME}.json", json.dumps(hook(program), indent=4) + "\n")
    if to is None:
        Path(CONFIGS).mkdir(parents=True, exist_ok=True)
        folders = json.dumps([one for one in DEFAULT_HOOKS if Path(one).is_dir()])
        write(Path(CONFIGS, f"{NAME}.conf"), ROOTLESS.format(folders=folders))


def checked_runtimes(settings: dict[str, Any], folder: Path) -> dict[str, str]:
    """Name our scripts in the settings of Docker; return their names, and what each runs next."""
    runtimes = settings.setdefault("runtimes", {})
    if not isinstance(runtimes, dict):
        fail("daemon.json: runtimes is not an object: correct it", REFUSED)
    runtimes.setdefault(NAME, {"path": PLAIN_RUNTIME})
    default = str(settings.get("default-runtime", PLAIN_RUNTIME))
    if default == PLAIN_RUNTIME:
        settings["default-runtime"] = NAME
    elif default not in runtimes:
        sys.stderr.write(UNCHECKED.format(f"without --runtime, which use {shown(default)},"))
    scripts = {}
    for name, facts in runtimes.items():
        path = facts.get("path") if isinstance(facts, dict) else None
        if not path:  # A shim of containerd's, which is no program of this kind.
            sys.stderr.write(UNCHECKED.format(f"with --runtime {shown(name)}"))
            continue
        own = folder / f"{NAME}-runtime-{name}"
        following = _next_of(own) if path == str(own) else str(path)
        facts["path"] = str(own)
        scripts[own.name] = shutil.which(following) or following
    return scripts


def script(program: Path, following: str) -> str:
    """Return the script of a runtime."""
    config = os.environ.get("CANHAZGPU_CONFIG")
    setting = f"CANHAZGPU_CONFIG={shlex.quote(str(Path(config).absolute()))} " if config else ""
    return SCRIPT.format(following=shlex.quote(following), program=shlex.quote(str(program)), config=setting)


def hook(program: Path) -> dict[str, Any]:
    """Return the file of the hook (oci-hooks(5))."""
    config = os.environ.get("CANHAZGPU_CONFIG")
    facts: dict[str, Any] = {"path": str(program), "args": [NAME, "oci", "hook"], "timeout": TIMEOUT}
    if config:
        facts["env"] = [f"CANHAZGPU_CONFIG={Path(config).absolute()}"]
    return {"version": "1.0.0", "hook": facts, "when": {"always": True}, "stages": ["createRuntime"]}


def _next_of(path: Path) -> str:
    """Return what a script of an earlier installation runs next."""
    try:
        found = NEXT.search(path.read_text())
    except OSError:
        found = None
    return shlex.split(found[1])[0] if found else PLAIN_RUNTIME


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except OSError as error:
        fail(f"{shown(path)} cannot be read: {error.strerror}: run this as root", REFUSED)
    except ValueError:
        fail(f"{shown(path)} is not valid JSON: correct it", REFUSED)
    return found if isinstance(found, dict) else fail(f"{shown(path)} is not a JSON object", REFUSED)


def _program(folder: Path, *, own: bool) -> Path:
    """Return our program; exit if a runtime could not run it, or if others than root could change it."""
    program = Path(sysconfig.get_path("scripts"), NAME)
    remedy = "install it for the host: python3 -m venv /opt/canhazgpu"
    if not program.is_file():
        fail(f"{shown(program)} does not exist: {remedy}", REFUSED)
    for path in () if own else (program, folder):
        changed = next((one for one in (path, *path.parents) if one.exists() and not is_roots(one)), None)
        if changed:
            fail(
                f"users other than root can change {shown(changed)}, which root would run: {remedy}", REFUSED
            )
    return program
