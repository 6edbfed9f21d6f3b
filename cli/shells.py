"""Shell code for `eval`: variables set in the syntax of bash, zsh, fish or csh.

Every statement ends so that it survives `eval` without quotes, which joins the lines with spaces.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

BASH, FISH, CSH = "bash", "fish", "csh"
SYNTAX = {
    "bash": BASH,
    "zsh": BASH,
    "sh": BASH,
    "dash": BASH,
    "ksh": BASH,
    "fish": FISH,
    "csh": CSH,
    "tcsh": CSH,
}
CHOICES = ("bash", "zsh", "fish", "csh")
PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789,._/-")
SHOWN = (
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "ROCR_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "CANHAZGPU_RESERVATION",
)


def checked_shell(name: str) -> str:
    """Return the name of a shell. Raises ValueError for another word."""
    if name in SYNTAX:
        return name
    raise ValueError(f"{name!r} is not one of {', '.join(CHOICES)}")


def detect_shell() -> str:
    """Return the shell that started this process; if another program did, the user's login shell."""
    for name in (_parent(), os.path.basename(os.environ.get("SHELL", ""))):  # noqa: PTH119 - pathlib would cost time
        if name in SYNTAX:
            return name
    return BASH


def _parent() -> str:
    try:
        with open(f"/proc/{os.getppid()}/comm", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            return file.read().strip()
    except OSError:
        return ""


def code(variables: Mapping[str, str], shell: str | None, without: tuple[str, ...] = ()) -> str:
    """Return the lines that set the variables in SHOWN, and unset those in `without`."""
    syntax = SYNTAX[shell or detect_shell()]
    lines = [_set(syntax, name, variables[name]) for name in SHOWN if name in variables]
    lines += [_unset(syntax, name) for name in without]
    return "".join(f"{line}\n" for line in lines)


def _set(syntax: str, name: str, value: str) -> str:
    quoted = value if value and PLAIN.issuperset(value) else _quoted(value)
    return {
        BASH: f"export {name}={quoted}",
        FISH: f"set -gx {name} {quoted};",
        CSH: f"setenv {name} {quoted};",
    }[syntax]


def _quoted(value: str) -> str:
    import shlex  # noqa: PLC0415 - it loads `re`, and most values are plain

    return shlex.quote(value)


def _unset(syntax: str, name: str) -> str:
    return {BASH: f"unset {name}", FISH: f"set -e {name};", CSH: f"unsetenv {name};"}[syntax]


def print_beside_code(sentence: str) -> None:
    """Print a sentence beside shell code: on a terminal with it, else on standard error, out of its way."""
    (sys.stdout if sys.stdout.isatty() else sys.stderr).write(sentence + "\n")
