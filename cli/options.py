"""Options that several commands have. Only the framework needs them: see `canhazgpu.cli.arguments`."""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer

from canhazgpu.cli import shells, values
from canhazgpu.cli.completion import candidates

CHECKS: dict[object, Callable[[str], str | int]] = {}  # By what typer calls: that also runs without typer.
T = TypeVar("T", str, int)
WHICH = "3, 0-3, 0,2, 0:1, all, or the start of a UUID"
TIMES = "12h, 7d, 10:00, yesterday, 2026-11-25, '2026-11-25 14:30' or 2026-11-25T14:30Z"


def checked(check: Callable[[str], T]) -> Callable[[str | None], T | None]:
    """Return a callback or a parser of typer that makes this check."""

    def callback(text: str | None) -> T | None:
        """Return the value of an option."""
        try:
            return None if text is None else check(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None

    CHECKS[callback] = check
    return callback


def integer(text: str) -> int:
    """Return the number that an option has as its value."""
    try:
        return values.integer(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def gpu_count(text: str) -> int:
    """Return the number of GPUs that an option has as its value."""
    try:
        return values.gpu_count(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


CHECKS[integer], CHECKS[gpu_count] = values.integer, values.gpu_count
non_empty, name, words = checked(values.non_empty), checked(values.name), checked(values.words)


def user_option(about: str) -> Any:
    """Return the option `--user`, which names a user of this host."""
    return typer.Option(
        "--user", "-u", help=about, metavar="USER", callback=name, autocompletion=candidates.users
    )


def gpu_option(about: str) -> Any:
    """Return the option `--gpu`, which names one GPU."""
    return typer.Option(
        "--gpu", help=about, metavar="GPU", callback=non_empty, autocompletion=candidates.gpus
    )


def time_option(about: str) -> Any:
    """Return an option that takes a time and is named after its parameter."""
    return typer.Option(help=about, metavar="TIME", callback=non_empty)


def newest_option(about: str) -> Any:
    """Return the option `-n`, which limits how many rows are shown."""
    return typer.Option("-n", "--number", help=about, metavar="NUMBER", parser=integer)


Gpus = Annotated[
    int | None,
    typer.Option("--gpus", "-g", help="Number of GPUs (default: 1).", metavar="NUMBER", parser=gpu_count),
]
GpuIds = Annotated[
    str | None,
    typer.Option(
        "--gpu-ids",
        "-G",
        help=f"Which GPUs: {WHICH}.",
        metavar="GPUS",
        callback=non_empty,
        autocompletion=candidates.gpus,
    ),
]
Mig = Annotated[
    str | None,
    typer.Option(
        "--mig",
        help="MIG instances of this profile, instead of whole GPUs: 1g.10gb, or 1g.10gb:2 for two.",
        metavar="PROFILE[:NUMBER]",
        callback=checked(values.mig),
        autocompletion=candidates.profiles,
    ),
]
Vendor = Annotated[
    str | None,
    typer.Option(
        "--vendor",
        help="Vendor of the GPUs, on a host with both: nvidia or amd.",
        metavar="NAME",
        callback=checked(values.vendor),
    ),
]
GpuWords = Annotated[
    list[str] | None,
    typer.Argument(help=f"Which GPUs: {WHICH}.", metavar="[GPUS]...", autocompletion=candidates.gpus),
]
Wait = Annotated[
    str | None,
    typer.Option(
        "--wait",
        "-w",
        help="Wait for free GPUs; with 30m, for at most 30 minutes.",
        metavar="[TIME]",
        callback=non_empty,
    ),
]
NonBlock = Annotated[bool, typer.Option("--nonblock", help="Do not wait, even if the settings say to.")]
Note = Annotated[
    str | None,
    typer.Option(
        "--note", "-n", help="A short note that other users can see.", metavar="TEXT", callback=words
    ),
]
Label = Annotated[
    str | None,
    typer.Option(
        "--user",
        "-u",
        help="Your name on a shared account; shown, not verified.",
        metavar="NAME",
        callback=name,
    ),
]
Shell = Annotated[
    str | None,
    typer.Option(
        "--shell",
        help="Print code for this shell: bash, zsh, fish or csh (default: the shell that runs this"
        " command, else $SHELL).",
        metavar="SHELL",
        autocompletion=candidates.shells,
        callback=checked(shells.checked_shell),
    ),
]
Host = Annotated[
    str | None,
    typer.Option("--host", help="Only this host of the fleet.", metavar="HOST", callback=non_empty),
]
AllHosts = Annotated[bool, typer.Option("--all", help="All hosts of the fleet.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
