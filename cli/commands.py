"""The list of all `canhazgpu` commands. Only the modules of the called command are imported."""

import importlib
import importlib.metadata
import os
import shutil
import sys
import typing
from typing import Annotated, Any, cast

import typer

from canhazgpu.cli import arguments
from canhazgpu.cli.arguments import FOREVER
from canhazgpu.cli.command_groups import SECTIONS, AllCommands, WholeSummaries
from canhazgpu.cli.completion import candidates, installation
from canhazgpu.cli.completion.shell_scripts import SCRIPTS, script, variable
from canhazgpu.cli.exit_codes import (
    INTERRUPTED,
    MEANINGS,
    USAGE,
    CommandEnded,
    error_line,
    exit_code_for,
    paragraph,
)
from canhazgpu.cli.output import examples, fail
from canhazgpu.client.connection import WAITING, WARNED
from canhazgpu.events.sanitize import printable

ABOUT = "Reserve this host's GPUs, run commands on them, and see who uses them."

NAMES = ("canhazgpu", "chg")
# Name: module of `canhazgpu.cli`, function or group, the function's epilog; in the order of the help.
COMMANDS = {
    "status": ("status_options", "status", "EPILOG"),
    "run": ("reservations.run", "run", "EPILOG"),
    "reserve": ("reservations.reserve", "reserve", "RESERVE_EPILOG"),
    "extend": ("reservations.reserve", "extend", "EXTEND_EPILOG"),
    "release": ("reservations.reserve", "release", "RELEASE_EPILOG"),
    "env": ("reservations.env", "env", "EPILOG"),
    "check": ("reservations.check", "check", "EPILOG"),
    "disown": ("reservations.reserve", "disown", "DISOWN_EPILOG"),
    "cancel": ("reservations.cancel", "cancel", "EPILOG"),
    "top": ("top.top", "top", "EPILOG"),
    "who": ("reservations.who", "who", "EPILOG"),
    "find": ("fleet.find", "find", "EPILOG"),
    "history": ("reservations.history", "history", "EPILOG"),
    "report": ("reservations.report", "report", "EPILOG"),
    "reservations": ("reservations.listing", "reservations", "EPILOG"),
    "queue": ("reservations.queue_listing", "queue", "EPILOG"),
    "bookings": ("reservations.bookings", "bookings", "EPILOG"),
    "admin": ("reservations.admin", "app", None),
    "violations": ("violations.listing", "app", None),
    "silence": ("violations.silence", "app", None),
    "events": ("notices.events", "app", None),
    "deliveries": ("notices.deliveries", "deliveries", "EPILOG"),
    "deadletters": ("notices.deliveries", "deadletters", None),
    "log": ("notices.log", "app", None),
    "notify": ("notices.notify", "app", None),
    "doctor": ("doctor.doctor", "doctor", "EPILOG"),
    "config": ("operations.config", "app", None),
    "backup": ("operations.backup", "backup", "BACKUP_EPILOG"),
    "restore": ("operations.backup", "restore", "RESTORE_EPILOG"),
    "redis": ("operations.redis.migrate", "app", None),
    "install": ("operations.install", "app", None),
    "enforcement": ("operations.enforcement", "app", None),
    "slurm": ("slurm.commands", "app", None),
    "pbs": ("pbs.commands", "app", None),
    "kubernetes": ("kubernetes.command", "kubernetes", "EPILOG"),
    "oci": ("oci.commands", "app", None),
    "serve": ("operations.serve", "serve", "EPILOG"),
    "worker": ("operations.worker", "worker", "EPILOG"),
    "exporter": ("exporter.command", "exporter", "EPILOG"),
    "web": ("web.web", "web", "EPILOG"),
    "demo": ("demo.demo", "demo", "EPILOG"),
}
EPILOG = examples(
    "canhazgpu run --gpus 2 -- python train.py",
    "canhazgpu reserve --gpus 1 --duration 4h",
    "canhazgpu status",
    "canhazgpu demo",
)
EXIT_CODES = paragraph(MEANINGS, "Exit codes (`canhazgpu run --help` has those of run):")


def options(
    context: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    config: Annotated[  # noqa: ARG001 - taken by main.py, wherever it stands; here for the help
        str,
        typer.Option(
            "--config",
            metavar="FILE",
            help="Settings file (default: $CANHAZGPU_CONFIG).",
            autocompletion=candidates.files,
        ),
    ] = "",
) -> None:
    """Reserve this host's GPUs, run commands on them, and see who uses them."""
    if version:
        typer.echo(f"canhazgpu {importlib.metadata.version('canhazgpu')}")
    elif context.invoked_subcommand is None:
        fail("no command given; `canhazgpu --help` lists them", USAGE)


def build(*names: str) -> typer.Typer:
    """Return the command line with only these commands, because building all of them is slow."""
    app = typer.Typer(
        name="canhazgpu",
        cls=AllCommands,
        help=ABOUT,
        no_args_is_help=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog=EPILOG + EXIT_CODES,
    )
    app.callback(invoke_without_command=True)(options)
    for name in names:
        module, attribute, epilog = COMMANDS[name]
        home = importlib.import_module(f"canhazgpu.cli.{module}")
        command = getattr(home, attribute)
        if epilog is None:
            app.add_typer(command, name=name, cls=WholeSummaries)
        else:
            _evaluate(command)
            app.command(name, epilog=getattr(home, epilog))(command)
    return app


def _evaluate(function: Any) -> None:
    """Evaluate annotations that are text, because only the framework needs them."""
    ours = {"typer": typer, "arguments": arguments, "candidates": candidates}
    names = {**vars(typing), **ours, **function.__globals__}
    function.__annotations__ = typing.get_type_hints(function, names, include_extras=True)


# Errors of the parser, whichever release of typer brings it along.
ParserError: Any = typer.BadParameter.__mro__[2]


def _valued(command: Any) -> set[str]:
    """Return the options of a command that have a value."""
    return {
        name
        for option in getattr(command, "params", ())
        if not getattr(option, "is_flag", True)
        for name in option.opts
    }


def _wait_alone(words: list[str], command: Any) -> list[str]:
    """Allow `--wait` without a time, which means to wait indefinitely."""
    valued = _valued(getattr(command, "commands", {}).get(words[0] if words else ""))
    end = words.index("--") if "--" in words else len(words)
    bare = words[:1] != ["run"] or end < len(words)  # Else the next word is a command without its `--`.
    shown: list[str] = []
    is_value = False
    for position, word in enumerate(words[:end]):
        following = words[position + 1] if position + 1 < end else "-"
        timed = following.lstrip("-")[:1].isdigit() or (bare and following[:1] != "-")
        alone = word in ("--wait", "-w") and not timed and not is_value
        shown += [word, FOREVER] if alone else [word]
        is_value = word in valued and not is_value and not alone
    return shown + words[end:]


def _called() -> str:
    """Return the name that this command was called by; shell completion depends on it."""
    name = os.path.basename(sys.argv[0])  # noqa: PTH119 - pathlib would cost time
    return name if name in NAMES else NAMES[0]


def _hint(words: list[str], error: Any) -> str | None:
    """Return what to type instead of words that are right in another program, or None."""
    from canhazgpu.cli.syntax import peer_options, peer_words, run_line  # noqa: PLC0415 - only after a mistake

    first, option = words[0] if words else "", getattr(error, "option_name", None)
    if first not in COMMANDS:
        if hint := peer_words.command_hint(first.partition("=")[0]):
            return f"there is no {'option' if first[0] == '-' else 'command'} {printable(first)}: {hint}"
        return run_line.as_run(words) if first[:1] not in ("", "-") and shutil.which(first) else None
    command = getattr(getattr(error, "ctx", None), "command", None)
    after, valued = words[1:], _valued(command)
    if option and len(option) == len("-i"):
        option = peer_options.whole_option(option, after[: run_line.command_start(after, valued)])
    said = error.format_message()
    if said.startswith(
        ("Got unexpected extra", "No such command", "Missing argument 'ID'", "Missing command")
    ):
        return peer_words.word_hint(said, words, getattr(command, "commands", ()))
    if first == "run" and "--" not in after:
        start = run_line.command_start(after, valued)
        if start < len(after) and option not in [word.partition("=")[0] for word in after[:start]]:
            return run_line.with_dashes(after, valued)
    if first == "extend" and (hint := peer_words.negative_time(after)):
        return hint
    own = {name for one in getattr(command, "params", ()) for name in one.opts}
    hint = peer_options.option_hint(option, own, words) if option else None
    return f"there is no option {option}: {hint}" if hint else None


def complete(asked: str) -> int:
    """Print the script of a shell (`source_bash`), or the words that make sense next; never an error."""
    verb, _, shell = asked.partition("_")
    if verb == "source":
        if shell not in SCRIPTS:
            known = f"there is no completion for {printable(shell)}, only for {', '.join(SCRIPTS)}"
            sys.stderr.write(error_line(known, USAGE))
            return USAGE
        sys.stdout.write(script(shell, _called()))
        return 0
    typed = os.environ.get("COMP_WORDS" if shell == "bash" else "_TYPER_COMPLETE_ARGS", "")
    begun = typed.split()[1:]
    WARNED[:] = WAITING[:] = []
    sys.modules["rich"] = cast("Any", None)  # Typer would load it to print plain text.
    sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 - for the whole process
    if shell == "fish" and (
        not begun or (len(begun) == 1 and not typed[-1].isspace() and begun[0][0] != "-")
    ):
        sections = {name: title for title, names in SECTIONS.items() for name in names}
        start = begun[0] if begun else ""
        found = [f"{name}\t{sections.get(name, '')}\n" for name in COMMANDS if name.startswith(start)]
        sys.stdout.write("".join(found))
        return 0
    names = [begun[0]] if begun and begun[0] in COMMANDS else COMMANDS if shell == "bash" else ()
    typer.main.get_command(build(*names)).main([], prog_name=_called(), complete_var=variable(_called()))
    return 0


def run(words: list[str]) -> int:
    """Run one command line; return its exit code."""
    if asked := os.environ.get(variable(_called())):
        return complete(asked)
    names = words[:1] if words and words[0] in COMMANDS else COMMANDS
    name = _called()
    try:
        if installation.is_asked(words):
            return installation.install_or_show(words, name)
        command = typer.main.get_command(build(*names))
        installation.explain(command)
        code = command.main(_wait_alone(words, command), prog_name=name, standalone_mode=False)
    except ParserError as error:
        where = getattr(error, "ctx", None)
        path = (
            where.command_path if where else " ".join([name, *words[:1]]) if names is not COMMANDS else name
        )
        message = _hint(words, error) or f"{error.format_message()} (see `{path} --help`)"
        sys.stderr.write(error_line(message, USAGE))
        return exit_code_for(USAGE)
    except CommandEnded as end:
        return end.code
    except typer.Abort:
        return INTERRUPTED
    return code if isinstance(code, int) else 0
