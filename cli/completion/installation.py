"""`--install-completion [SHELL]` and `--show-completion [SHELL]`, by default for the current shell."""

import importlib
import os
import sys
from pathlib import Path
from typing import Any

from canhazgpu.cli.completion.shell_scripts import SCRIPTS, script, variable
from canhazgpu.cli.exit_codes import USAGE
from canhazgpu.cli.output import fail
from canhazgpu.events.sanitize import printable

INSTALL, SHOW = "--install-completion", "--show-completion"


def is_asked(words: list[str]) -> bool:
    """Return whether a command line is about the installation of completion."""
    return bool(words) and words[0].partition("=")[0] in (INSTALL, SHOW)


def explain(command: Any) -> None:
    """Say in the help of the framework's options that they may name a shell."""
    ends = {INSTALL: "Install completion", SHOW: "Print the completion script"}
    for option in command.params:
        for name in ends.keys() & set(option.opts):
            option.help = (
                f"{ends[name]} for the current shell, or for the one that you name: {', '.join(SCRIPTS)}."
            )


def install_or_show(words: list[str], program: str) -> int:
    """Do what a command line asks for; return the exit code."""
    option, equals, value = words[0].partition("=")
    named = [value, *words[1:]] if equals else words[1:]
    if named[1:]:
        fail(f"{option} takes at most one argument, the shell: {', '.join(SCRIPTS)}", USAGE)
    shell = named[0] if named else _current()
    if shell not in SCRIPTS:
        known = f"there is no completion for {printable(shell) or 'a shell without a name'}"
        fail(f"{known}, only for {', '.join(SCRIPTS)}: {option} bash", USAGE)
    if option == SHOW:
        sys.stdout.write(script(shell, program))
        return 0
    typers: Any = importlib.import_module("typer._completion_shared")
    getattr(typers, "_completion_scripts", {}).update(SCRIPTS)
    _, path = typers.install(shell=shell, prog_name=program, complete_var=variable(program))
    sys.stdout.write(f"{shell} completion installed in {path}\nIt takes effect in new {shell} sessions.\n")
    return 0


def _current() -> str:
    """Return the shell that runs this command, however far up, or else the user's login shell."""
    typers: Any = importlib.import_module("typer._completion_shared")
    found = getattr(typers, "_get_shell_name", lambda: None)()
    return str(found or Path(os.environ.get("SHELL", "")).name)
