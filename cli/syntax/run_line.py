"""The command line of `run` that was not meant as it is understood: a missing `--`, or no program at all."""

import re
import shlex
from collections.abc import Collection, Sequence

from canhazgpu.events.sanitize import printable

LONGEST = 200
RUN = "canhazgpu run"
DASHES = "put -- directly before the command"
CHANGES = ("cd", "pushd", "popd", "umask", "ulimit", "set", "shopt", "alias", "unalias", "trap")
READS = ("source", ".")
VARIABLES = ("export", "declare", "typeset", "unset", "setenv")
OTHERS = ("eval", "exec", "builtin", "time", "if", "for", "while", "{", "(", "module", "deactivate")
ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*", re.DOTALL)
_SHELL = re.compile(r"[;&|<>$`(){}*?\n]")


def with_dashes(words: Sequence[str], valued: Collection[str]) -> str | None:
    """Return what to type for the `words` after `run`, in which `--` is missing or comes too late.

    `valued` are the options that have a value. Returns None if there is no command in them.
    """
    start = command_start(words, valued)
    command = list(words[start:])
    if "--" in command:
        command.remove("--")
    return f"{DASHES}: {_typed(RUN, *words[:start], '--', *command)}" if command else None


def command_start(words: Sequence[str], valued: Collection[str]) -> int:
    """Return where the command begins in the `words` after `run`; their number if there is none."""
    position = 0
    while position < len(words) and words[position].startswith("-") and words[position] != "--":
        word, following = words[position], words[position + 1 : position + 2]
        timed = bool(following) and following[0][:1].isdigit()  # --wait may stand without a time.
        position += 1 + (timed if word in ("--wait", "-w") else word in valued)
    return min(position, len(words))


def as_run(words: Sequence[str]) -> str:
    """Return what to type if `run` was forgotten."""
    return f"to run it on a GPU: {_typed(RUN, '--', *words)}"


def no_program(command: Sequence[str]) -> str | None:
    """Return what to type instead of a command that only a shell knows, or None for any other."""
    name, rest = command[0], list(command[1:])
    why, words = f"{name} changes only the shell itself", None
    if name in CHANGES:
        words = ["bash", "-c", f"{shlex.join(command)} && COMMAND"]
    elif name in READS:
        words = ["bash", "-c", f"source {shlex.join(rest) or 'FILE'} && COMMAND"]
    elif name in VARIABLES:
        words = ["env", *([word for word in rest if ASSIGNMENT.fullmatch(word)] or ["NAME=VALUE"]), "COMMAND"]
    elif ASSIGNMENT.fullmatch(name) and not (" " in name and _SHELL.search(name)):
        why, words = "use env(1) to set a variable", ["env", name, *(rest or ["COMMAND"])]
    elif name in OTHERS:
        why, words = f"{name} is part of the shell", ["bash", "-c", shlex.join(command)]
    elif not rest and len(name.split()) > 1:
        why = f"{printable(name, 60)!r} is a whole command line, not a program"
        words = ["sh", "-c", name] if _SHELL.search(name) else name.split()
    return f"{why}: {_typed(RUN, '--', *words)}" if words else None


def _typed(*words: str) -> str:
    first, *rest = words
    return printable(f"{first} {shlex.join(rest)}", LONGEST)
