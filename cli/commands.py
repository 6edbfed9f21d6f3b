"""Every command of `canhazgpu`, put together."""

import importlib.metadata
from typing import Annotated, Any

import typer

from canhazgpu.cli import (
    admin,
    configuration,
    deliveries,
    demo,
    doctor,
    events,
    log,
    notify,
    reserve,
    serve,
    silence,
    violations,
    waiting,
    worker,
)
from canhazgpu.cli import run as run_command
from canhazgpu.cli.asking import FOREVER
from canhazgpu.cli.status import show, watch
from canhazgpu.cli.words import USAGE, examples, fail

ABOUT = "Share the GPUs of this host: reserve them, run on them, see who uses what and who should not."

app = typer.Typer(
    name="canhazgpu",
    help=ABOUT,
    no_args_is_help=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "canhazgpu run --gpus 2 -- python train.py",
        "canhazgpu reserve --gpus 1 --duration 4h",
        "canhazgpu status",
        "canhazgpu demo",
    )
    + "\n\n\b\nExit codes: 0 done, 1 refused, 2 usage, 3 the service cannot be reached",
)


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    config: Annotated[  # noqa: ARG001 - taken by main.py, wherever it stands; here for the help
        str, typer.Option("--config", metavar="FILE", help="Settings file; else $CANHAZGPU_CONFIG.")
    ] = "",
) -> None:
    """Share the GPUs of this host: reserve them, run on them, see who uses what and who should not."""
    if version:
        typer.echo(f"canhazgpu {importlib.metadata.version('canhazgpu')}")
    elif context.invoked_subcommand is None:
        fail("no command given; `canhazgpu --help` lists them", USAGE)


@app.command(
    epilog=examples(
        "canhazgpu status", "canhazgpu status --json | jq -r '.[] | .status'", "canhazgpu status --watch"
    )
)
def status(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print an array with one object a GPU.")] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="Print without colours.")] = False,
    watching: Annotated[bool, typer.Option("--watch", help="Keep it up to date until Ctrl-C.")] = False,
) -> None:
    """Print one line a GPU: available, in use, in use without reservation, or why it is not known."""
    if as_json and watching:
        fail("--json and --watch exclude each other: ask again, or follow `canhazgpu events`", USAGE)
    if watching:
        watch(colour=not no_color)
    show(as_json=as_json, colour=not no_color)


app.command("run", epilog=run_command.EPILOG)(run_command.run)
app.command("reserve", epilog=reserve.RESERVE_EPILOG)(reserve.reserve)
app.command("extend", epilog=reserve.EXTEND_EPILOG)(reserve.extend)
app.command("release", epilog=reserve.RELEASE_EPILOG)(reserve.release)
app.command("queue", epilog=waiting.EPILOG)(waiting.queue)
app.add_typer(admin.app, name="admin")
app.add_typer(violations.app, name="violations")
app.add_typer(silence.app, name="silence")
app.command("events", epilog=events.EPILOG)(events.events)
app.command("deliveries", epilog=deliveries.EPILOG)(deliveries.deliveries)
app.add_typer(deliveries.deadletters, name="deadletters")
app.add_typer(log.app, name="log")
app.add_typer(notify.app, name="notify")
app.command("doctor", epilog=doctor.EPILOG)(doctor.doctor)
app.add_typer(configuration.app, name="config")
app.command("serve", epilog=serve.EPILOG)(serve.serve)
app.command("worker", epilog=worker.EPILOG)(worker.worker)
app.command("demo", epilog=demo.EPILOG)(demo.demo)

# Errors of the parser, whichever release of typer brings it along.
ParserError: Any = typer.BadParameter.__mro__[2]


def _wait_alone(words: list[str], command: Any) -> list[str]:
    """Let `--wait` stand without a time: it waits for as long as it takes then."""
    inner = getattr(command, "commands", {}).get(words[0] if words else "")
    valued = {
        name
        for option in getattr(inner, "params", ())
        if not getattr(option, "is_flag", True)
        for name in option.opts
    }
    end = words.index("--") if "--" in words else len(words)
    shown: list[str] = []
    is_value = False
    for position, word in enumerate(words[:end]):
        timed = position + 1 < end and words[position + 1][:1].isdigit()
        alone = word in ("--wait", "-w") and not timed and not is_value
        shown += [word, FOREVER] if alone else [word]
        is_value = word in valued and not is_value and not alone
    return shown + words[end:]


def run(words: list[str]) -> int:
    """Run one command line; return its exit code."""
    try:
        command = typer.main.get_command(app)
        code = command.main(_wait_alone(words, command), prog_name="canhazgpu", standalone_mode=False)
    except ParserError as error:
        where = getattr(error, "ctx", None)
        path = where.command_path if where else "canhazgpu"
        typer.echo(f"Error: {' '.join(error.format_message().split())} (see `{path} --help`)", err=True)
        return USAGE
    except typer.Abort:
        return 130
    return code if isinstance(code, int) else 0
