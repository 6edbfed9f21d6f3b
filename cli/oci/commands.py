"""`canhazgpu oci`: the hook and the check that container runtimes run."""

import sys
from typing import Annotated

import typer

from canhazgpu.cli.exit_codes import CommandEnded
from canhazgpu.cli.output import examples

app = typer.Typer(
    help="Check containers before they start; container runtimes run these commands.",
    no_args_is_help=False,
    epilog=examples(
        "canhazgpu install docker", "canhazgpu install podman", "canhazgpu oci hook < state.json"
    ),
    rich_markup_mode=None,
)


@app.command("hook", epilog=examples("canhazgpu oci hook < state.json"))
def hook() -> None:
    """Check a container as an OCI hook (stage createRuntime), for Podman and CRI-O.

    The runtime passes the container's state on standard input. If the exit code is not 0, the runtime does
    not start the container.
    """
    from canhazgpu.cli.oci.runtime import check_state  # noqa: PLC0415 - heavy

    raise CommandEnded(check_state(sys.stdin.buffer.read()))


@app.command("runtime", epilog=examples("canhazgpu oci runtime --next runc -- create --bundle . name"))
def runtime(
    words: Annotated[list[str], typer.Argument(help="The runtime's command line.", metavar="WORDS")],
    *,
    following: Annotated[
        str, typer.Option("--next", help="The runtime that creates the container.", metavar="PROGRAM")
    ] = "runc",
) -> None:
    """Check a container that a runtime is about to create.

    The script that `canhazgpu install docker` writes runs this. A container that asks for all GPUs gets those
    that its user has reserved. If the exit code is not 0, the script does not create the container.
    """
    from canhazgpu.cli.oci.runtime import check_bundle  # noqa: PLC0415 - heavy

    raise CommandEnded(check_bundle(words, following))
