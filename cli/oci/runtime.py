"""Checks a container whose runtime is about to create it, and changes its configuration."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from canhazgpu.cli.oci import configuration
from canhazgpu.cli.oci.permission import NotAllowed, ask

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from canhazgpu.cli.oci.configuration import Spec

CONFIG = "config.json"
START, REFUSE = 0, 1  # Exit codes.


class BadContainer(Exception):
    """The container has no configuration that can be read; the message says why."""


def check_bundle(words: Sequence[str], runtime: str) -> int:
    """Check the container that the command line of a runtime creates; return the exit code.

    For a command in a running container, only the token is removed: it gets no other GPUs.
    """
    try:
        if process := option(words, "process", "p"):
            _change(Path(process), _without_token)
        else:
            path = Path(option(words, "bundle", "b") or ".", CONFIG)
            _change(path, lambda spec: _check(spec, words[-1] if words else "", runtime))
    except (NotAllowed, BadContainer, OSError) as refused:
        _report(words, str(refused))
        return REFUSE
    return START


def check_state(text: bytes) -> int:
    """Check the container whose state a runtime passes to its hooks; return the exit code."""
    try:
        state = _decoded(text, "the state on standard input")
        spec = read(Path(str(state.get("bundle", ".")), CONFIG))
        if gpus := configuration.gpus_of(spec, ""):
            fixed = configuration.Gpus(names=gpus.names, devices=gpus.devices, every=gpus.every)
            ask(spec, fixed, str(state.get("id", "")), daemon=False)
    except (NotAllowed, BadContainer, OSError) as refused:
        sys.stderr.write(f"{refused}\n")
        return REFUSE
    return START


def read(path: Path) -> Spec:
    """Return the configuration of a container. Raises BadContainer."""
    try:
        return _decoded(path.read_bytes(), str(path))
    except OSError as error:
        raise BadContainer(f"canhazgpu: {path} cannot be read: {error.strerror}") from error


def option(words: Sequence[str], *names: str) -> str | None:
    """Return the value of an option of a runtime, as Go's programs write them; of several, the last."""
    found = None
    for position, word in enumerate(words):
        name, sign, value = word.lstrip("-").partition("=")
        if word.startswith("-") and name in names:
            found = value if sign else (words[position + 1] if position + 1 < len(words) else None)
    return found


def _change(path: Path, change: Callable[[Spec], None]) -> None:
    """Change what a file says; nobody sees half of it."""
    spec, before = read(path), read(path)
    change(spec)
    if spec != before:
        new = path.with_name(f".{path.name}.new")
        new.write_text(json.dumps(spec), encoding="ascii")
        new.chmod(path.stat().st_mode & 0o777)
        new.replace(path)


def _without_token(process: Spec) -> None:
    configuration.set_variable({"process": process}, configuration.TOKEN, None)


def _check(spec: Spec, name: str, runtime: str) -> None:
    """Ask about a container with GPUs. The token does not get into it, because others could read it there."""
    token = configuration.variable(spec, configuration.TOKEN)
    if gpus := configuration.gpus_of(spec, runtime):
        answer = ask(spec, gpus, name, daemon=True)
        if answer.only is not None:
            configuration.narrow(spec, answer.only["uuids"], answer.only["devices"])
        if token and answer.user is not None:
            configuration.set_variable(spec, configuration.RESERVATION, token.partition(".")[0])
    if token is not None:
        configuration.set_variable(spec, configuration.TOKEN, None)


def _report(words: Sequence[str], line: str) -> None:
    """Write a refusal where the runtime's caller looks for it: its log, and standard error."""
    sys.stderr.write(f"{line}\n")
    if log := option(words, "log"):
        entry = {"level": "error", "msg": line, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        try:
            with Path(log).open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError:  # Standard error has it.
            pass


def _decoded(text: bytes, what: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadContainer(f"canhazgpu: {what} is not valid JSON") from error
    if not isinstance(found, dict):
        raise BadContainer(f"canhazgpu: {what} is not a JSON object")
    return found
