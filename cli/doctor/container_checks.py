"""Whether Docker and Podman ask the service before they start a container."""

import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from canhazgpu.config.settings import Settings

Finding = tuple[str, str, str]
DAEMON_JSON = "/etc/docker/daemon.json"
HOOKS = ("/etc/containers/oci/hooks.d", "/usr/share/containers/oci/hooks.d")
HOOK = "canhazgpu.json"
NAME = "canhazgpu"
PROGRAM = re.compile(r"^program=(.+)$", re.MULTILINE)


def containers(settings: Settings) -> Iterator[Finding]:
    """Check the files that `install docker` and `install podman` write, if these programs are here."""
    if settings.containers.mode == "off":
        yield "ok", "containers are not checked (containers.mode is off)", ""
        return
    found = False
    for engine, check in (("docker", _of_docker), ("podman", _of_podman)):
        if shutil.which("dockerd" if engine == "docker" else engine):
            found = True
            problem = check()
            what = f"{engine} asks the service before it starts a container"
            if not problem:
                yield "ok", what, ""
            elif settings.containers.mode == "enforce":
                yield "fail", problem, f"canhazgpu install {engine}"
            else:
                yield "ok", f"{problem}; `canhazgpu install {engine}` changes that", ""
    if not found:
        yield "ok", "neither docker nor podman is installed", ""


def _of_docker() -> str:
    """Return what is wrong; empty if nothing is."""
    try:
        settings = json.loads(Path(DAEMON_JSON).read_text(errors="replace"))
        runtimes, default = dict(settings["runtimes"]), settings["default-runtime"]
    except (OSError, ValueError, KeyError, TypeError):
        return "docker does not ask the service before it starts a container"
    for name in dict.fromkeys([default, *runtimes]):
        if reason := _wrong_script(runtimes.get(name)):
            return f"docker does not ask the service for --runtime {name}: {reason}"
    return ""


def _wrong_script(facts: Any) -> str:
    path = facts.get("path") if isinstance(facts, dict) else None
    if not path or not Path(path).name.startswith(f"{NAME}-runtime-"):
        return "its program is not canhazgpu's script"
    try:
        program = PROGRAM.search(Path(path).read_text(errors="replace"))
    except OSError as error:
        return f"{path}: {error.strerror}"
    if program is None or not os.access(shlex.split(program[1])[0], os.X_OK):
        return f"the program that {path} names is missing or not executable"
    return ""


def _of_podman() -> str:
    """Return what is wrong; empty if nothing is."""
    for folder in HOOKS:
        try:
            program = json.loads(Path(folder, HOOK).read_text(errors="replace"))["hook"]["path"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        missing = f"{folder}/{HOOK} names {program}, which is missing or not executable"
        return "" if os.access(program, os.X_OK) else missing
    return "podman does not ask the service before it starts a container"
