"""Writes the table of the commands that start often: `python -m canhazgpu.cli.recognition.option_table FILE`.

It never describes anything itself. What it cannot describe without the framework is left out, and so
is a command that the framework must prepare.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from canhazgpu.cli.arguments import FOREVER
from canhazgpu.cli.commands import COMMANDS, build
from canhazgpu.cli.options import CHECKS

OFTEN = ("run", "reserve", "release", "extend", "status", "check", "queue", "env", "cancel", "serve")
PLAIN = "STRING"  # What a parameter for text is called, by every version of the framework.
HEAD = '''"""The options of the commands that start often, generated from their definitions by `option_table`.

Name of a command: its module, its function, its options, and its arguments with whether they take all words
that are left. Name of an option: its parameter, its value or the check of its value, and the value that it
has alone.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    Meaning = tuple[str, bool | str, str | None]

MANY = True
COMMANDS: dict[str, tuple[str, str, dict[str, Meaning], tuple[tuple[str, bool], ...]]] = {
'''


def table() -> str:
    """Return the source of the module."""
    rows = [line for name in OFTEN if name in COMMANDS for line in _command(name)]
    return HEAD + "\n".join(rows) + "\n}\n"


def _command(name: str) -> Iterator[str]:
    root: Any = typer.main.get_command(build(name))
    command = root.commands[name]
    home, function, _ = COMMANDS[name]
    options = [one for one in command.params if one.param_type_name == "option" and one.name != "help"]
    positions = [one for one in command.params if one.param_type_name == "argument"]
    if any(map(_needs_framework, command.params)) or not all(map(_is_plain_argument, positions)):
        return
    yield f'    "{name}": ('
    yield f'        "canhazgpu.cli.{home}",'
    yield f'        "{function}",'
    yield "        {"
    for option in options:
        yield from _option(option)
    yield "        },"
    shown = "".join(f'("{one.name}", {one.nargs == -1}), ' for one in positions).rstrip()
    yield f"        ({shown}),"
    yield "    ),"


def _needs_framework(parameter: Any) -> bool:
    """Return whether a parameter gets a value that nobody has written."""
    return bool(parameter.required or parameter.envvar or getattr(parameter, "prompt", None))


def _is_plain_argument(parameter: Any) -> bool:
    return repr(parameter.type) == PLAIN and not parameter.callback and parameter.nargs in (1, -1)


def _option(option: Any) -> Iterator[str]:
    if option.is_flag and option.is_bool_flag and not option.callback and not option.multiple:
        for names, value in ((option.opts, True), (option.secondary_opts, False)):
            for name in names:
                yield f'            "{name}": ("{option.name}", {value}, None),'
        return
    check = _check(option)
    if check is None or option.nargs != 1 or option.multiple or option.count or option.is_flag:
        return
    alone = f'"{FOREVER}"' if "--wait" in option.opts else "None"
    for name in option.opts:
        yield f'            "{name}": ("{option.name}", "{check}", {alone}),'


def _check(option: Any) -> str | None:
    """Return the check that a value must pass, `module:function`; None if only the framework knows it."""
    parser = getattr(option.type, "func", None)
    callback = option.callback and _inner(option.callback)
    if (parser and callback) or not (parser or repr(option.type) == PLAIN):
        return None
    if not parser and not callback:
        return ""
    check: Any = CHECKS.get(parser or callback)
    return check and f"{check.__module__}:{check.__qualname__}"


def _inner(callback: Any) -> Any:
    """Return the callback that typer has wrapped."""
    return getattr(callback, "__wrapped__", callback)


def main() -> None:
    """Write the module into the file that is named."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):  # noqa: PLR2004 - the program and the file
        sys.exit("usage: python -m canhazgpu.cli.recognition.option_table FILE")
    Path(sys.argv[1]).write_text(table())


if __name__ == "__main__":
    main()
