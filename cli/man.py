"""Writes a man page for each command, from the definitions of `--help`: `python -m canhazgpu.cli.man DIR`.

It never describes anything itself, apart from the files and variables that all commands use.
"""

import importlib.metadata
import os
import re
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from canhazgpu.cli.commands import COMMANDS, NAMES, build
from canhazgpu.events.default_paths import CONFIG, SOCKET, STATE_DIR

SECTION = "1"
WIDTH = 79  # Columns of a line of source; the reader of the page fills the lines anew.
NO_REWRAP = "\b"  # What marks a paragraph of a help text whose lines must be kept.
TITLES = {"Exit codes": "EXIT STATUS"}
_TITLE = re.compile(r"([A-Z][a-z]+(?: [a-z]+)?)(?:,? ?([^:\n]*)):\n(.*)", re.DOTALL)
_CODE = re.compile(r" *(\d+)  +(.+)")
FILES = {
    CONFIG: "The settings.",
    SOCKET: "The socket of the service.",
    STATE_DIR: "The state of the service.",
}
ENVIRONMENT = {
    "CANHAZGPU_CONFIG": "The settings file to use instead.",
    "CANHAZGPU_SOCKET": "The socket to use instead.",
    "CANHAZGPU_SECTION_KEY": "Overrides one setting of the file: CANHAZGPU_NOTIFY_DRY_RUN=true.",
}


def pages() -> dict[str, str]:
    """Return the text of every page by its file name."""
    root: Any = typer.main.get_command(build(*COMMANDS))
    contexts = list(_contexts(root, NAMES[0], None))
    return {f"{_page(context)}.{SECTION}": _written(context) for context in contexts}


def _contexts(command: Any, name: str, parent: Any) -> Iterator[Any]:
    """Yield a context for a command and for every command below it."""
    context = command.context_class(command, info_name=name, parent=parent, **command.context_settings)
    yield context
    for inner, below in getattr(command, "commands", {}).items():
        if not below.hidden:
            yield from _contexts(below, inner, context)


def _page(context: Any) -> str:
    return str(context.command_path).replace(" ", "-")


def _written(context: Any) -> str:
    command, name = context.command, _page(context)
    summary = command.get_short_help_str(limit=1000).rstrip(".")
    general = dict(_sections(context.find_root().command.epilog or ""))
    own = dict(_sections(command.epilog or ""))
    titles = [*own, *(title for title in TITLES.values() if title in general and title not in own)]
    parts = [
        f'.TH "{_roff(name.upper())}" "{SECTION}" "{_date()}" "canhazgpu {_version()}" "User Commands"',
        ".\\\" Written by canhazgpu.cli.man from the command's own help.",
        f".SH NAME\n{_text(f'{name} - {summary}')}",
        f".SH SYNOPSIS\n\\fB{_roff(context.command_path)}\\fR {_synopsis(context)}",
        f".SH DESCRIPTION\n{_paragraphs(command.help or summary)}",
        *_parameters(context),
        *(f".SH {title}\n{own.get(title) or general[title]}" for title in titles),
        *_environment(context),
        f".SH SEE ALSO\n{_see_also(context)}",
    ]
    return "\n".join(parts) + "\n"


def _parameters(context: Any) -> Iterator[str]:
    """Yield the sections of the arguments, the options and the commands."""
    entries: dict[str, list[str]] = {"ARGUMENTS": [], "OPTIONS": [], "COMMANDS": []}
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        if record:
            kind = "ARGUMENTS" if parameter.param_type_name == "argument" else "OPTIONS"
            entries[kind].append(_entry(_names(record[0]), _text(record[1])))
    for name, command in getattr(context.command, "commands", {}).items():
        if not command.hidden:
            page = f"\\fB{_roff(f'{_page(context)}-{name}')}\\fR({SECTION})"
            entries["COMMANDS"].append(_entry(page, _text(command.get_short_help_str(limit=1000))))
    for title, listed in entries.items():
        if listed:
            yield "\n".join([f".SH {title}", *listed])


def _sections(epilog: str) -> Iterator[tuple[str, str]]:
    """Yield title and text of the paragraphs of an epilog that begin with a title."""
    for paragraph in _split(epilog):
        titled = _TITLE.fullmatch(paragraph.removeprefix(NO_REWRAP).strip())
        if titled and titled[1] in TITLES:
            remark = [_text(f"{_sentence(titled[2])}.")] if titled[2] else []
            yield TITLES[titled[1]], "\n".join([*remark, *_codes(titled[3])])
        elif titled:
            yield titled[1].upper(), _lines(titled[3])


def _sentence(remark: str) -> str:
    plain = remark.strip("()")
    return plain if plain.startswith("`") else plain[:1].upper() + plain[1:]


def _codes(table: str) -> list[str]:
    return [_entry(_bold(code), _text(meaning)) for code, meaning in _CODE.findall(table)]


def _environment(context: Any) -> Iterator[str]:
    if context.parent is None:
        for title, listed in (("ENVIRONMENT", ENVIRONMENT), ("FILES", FILES)):
            yield "\n".join([f".SH {title}", *(_entry(_bold(name), _text(listed[name])) for name in listed)])


def _see_also(context: Any) -> str:
    parents = [] if context.parent is None else [_page(context.parent)]
    below = [f"{_page(context)}-{name}" for name in getattr(context.command, "commands", {})]
    siblings = (
        [f"{_page(context.parent)}-{name}" for name in context.parent.command.commands] if parents else []
    )
    names = sorted({*parents, *below, *siblings} - {_page(context)})
    return ",\n".join(f"\\fB{_roff(name)}\\fR({SECTION})" for name in names)


def _synopsis(context: Any) -> str:
    words = " ".join(context.command.collect_usage_pieces(context)).replace("{", "").replace("}", "")
    return re.sub(r"[A-Za-z]+", lambda word: f"\\fI{word[0]}\\fR", _roff(words))


def _names(record: str) -> str:
    """Return `-g, --gpus NUMBER` with the options in bold and their values in italics."""
    return re.sub(r"[^\s,/]+", lambda word: _bold(word[0]) if word[0][0] == "-" else _italic(word[0]), record)


def _entry(names: str, text: str) -> str:
    return f".TP\n{names}\n{text}"


def _paragraphs(text: str) -> str:
    return "\n.PP\n".join(
        _lines(paragraph.removeprefix(NO_REWRAP)) if paragraph.startswith(NO_REWRAP) else _text(paragraph)
        for paragraph in _split(text)
    )


def _lines(text: str) -> str:
    kept = [_roff(line.strip()) for line in text.strip("\n").splitlines()]
    return "\n".join([".nf", ".RS 4", *kept, ".RE", ".fi"])


def _split(text: str) -> list[str]:
    return [part for part in re.split(r"\n\s*\n", text.strip(" \n")) if part.strip(f" \n{NO_REWRAP}")]


def _text(text: str) -> str:
    """Return running text, with what stands in backticks in bold."""
    marked = re.sub(r"`([^`]*)`", r"\\fB\1\\fR", _roff(" ".join(text.split())))
    wrapped = textwrap.wrap(marked, WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n".join(f"\\&{line}" if line.startswith(".") else line for line in wrapped)


def _bold(text: str) -> str:
    return f"\\fB{_roff(text)}\\fR"


def _italic(text: str) -> str:
    return f"\\fI{_roff(text)}\\fR"


def _roff(text: str) -> str:
    """Return `text` so that troff prints it as it is."""
    plain = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("^", "\\(ha")
    plain = re.sub("[^\n -~]", lambda found: f"\\[u{ord(found[0]):04X}]", plain.replace("~", "\\(ti"))
    return re.sub(r"^(?=\.)", r"\\&", plain, flags=re.MULTILINE)


def _date() -> str:
    """Return the date of the release that is built, so that the same source gives the same pages."""
    seconds = int(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _version() -> str:
    return importlib.metadata.version("canhazgpu")


def main() -> None:
    """Write the pages into the folder that is named."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):  # noqa: PLR2004 - the program and the folder
        sys.exit("usage: python -m canhazgpu.cli.man DIR")
    folder = Path(sys.argv[1])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in pages().items():
            (folder / name).write_text(text)
        for name in NAMES[1:]:
            link = folder / f"{name}.{SECTION}"
            link.unlink(missing_ok=True)
            link.symlink_to(f"{NAMES[0]}.{SECTION}")
    except OSError as error:
        sys.exit(f"Error: {error.filename}: {error.strerror}")


if __name__ == "__main__":
    main()
