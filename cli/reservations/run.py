"""`canhazgpu run`: run a command on reserved GPUs and release them when it ends.

The reservation is bound to this process, which then becomes the command with execve(2). The terminal, the
signals and the exit code are therefore the command's own, and no wrapper process remains.

A command of root's becomes the parent of the descendants that lose theirs (PR_SET_CHILD_SUBREAPER, which
execve(2) keeps), because root can start them as anybody: the service then still finds the run above them.
"""

from __future__ import annotations

import errno
import os
import sys

from canhazgpu.cli import arguments
from canhazgpu.cli.exit_codes import NOT_EXECUTABLE, NOT_FOUND, REFUSED, RUN_MEANINGS, USAGE, paragraph
from canhazgpu.cli.output import examples, fail
from canhazgpu.cli.reservations.executables import find
from canhazgpu.events.sanitize import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Annotated, Any, NoReturn

    import typer

    from canhazgpu.client.reservations import Reservation

EPILOG = examples(
    "canhazgpu run --gpus 2 -- python train.py",
    "canhazgpu run --gpu-ids 1,3 --duration 8h -- ./job.sh",
    "canhazgpu run --mig 1g.10gb -- python small.py",
    "canhazgpu run --new -- python other.py  # even if you hold GPUs already",
    "canhazgpu run --gpus 4 --wait -- torchrun --nproc-per-node 4 train.py",
) + paragraph(RUN_MEANINGS, "Exit codes, other than those of the command:")
SHELL = "/bin/sh"
# Programs of these names exist where POSIX is taken at its word; they change only themselves.
WITHOUT_EFFECT = ("cd", "alias", "unalias", "umask", "ulimit")
ENGINES = ("docker", "podman", "nerdctl", "sudo")  # Or what may start one.
PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>; Python has no name for it.
RUN = "canhazgpu run --gpus 1 -- python train.py"


def run(
    context: typer.Context = None,  # type: ignore[assignment] # only the framework has one
    *,
    command: Annotated[
        list[str] | None, typer.Argument(help="The command to run, after `--`.", metavar="[COMMAND]...")
    ] = None,
    gpus: arguments.Gpus = None,
    gpu_ids: arguments.GpuIds = None,
    mig: arguments.Mig = None,
    vendor: arguments.Vendor = None,
    timeout: Annotated[
        str | None,
        typer.Option(
            "--duration",
            "-d",
            "--timeout",
            "-t",
            metavar="TIME",
            help="Stop the command after this time: SIGINT, then SIGKILL 30 s later.",
            callback=arguments.non_empty,
        ),
    ] = None,
    wait: arguments.Wait = None,
    nonblock: arguments.NonBlock = False,
    note: arguments.Note = None,
    user: arguments.Label = None,
    new: Annotated[
        bool, typer.Option("--new", help="Reserve GPUs other than those you already hold.")
    ] = False,
) -> None:
    """Run a command on reserved GPUs.

    The GPUs are released when the command ends. Inside another `run`, in a job of Slurm or PBS, or in a shell
    that has the variables of a reservation, the command uses the GPUs of that run, job or reservation: all of
    them, or as many as --gpus says. If you hold a manual reservation that fits, the command uses it. A
    container that you start with `docker run` gets a token, which proves that it is yours.
    """
    body = {
        "kind": "run",
        **arguments.gpu_selection(gpus, gpu_ids, mig),
        **arguments.without_none(note=arguments.noted(note), label=user, vendor=vendor),
        **arguments.surrounding_reservation(),
        "use_held": not new,
    }
    if gpus is None and gpu_ids is None and mig is None:
        del body["count"]
    if timeout is not None:
        body["timeout"] = arguments.checked_duration(
            arguments.typed_option("--duration", "--timeout"), timeout
        )
    patience = arguments.wait_value(wait, nonblock=nonblock)
    if not command:
        fail(f"no command given: {RUN}", USAGE)
    if "--" not in sys.argv or sys.argv[sys.argv.index("--") + 1 :] != command:
        _dashes_missing(context)
    path = look_up(command)
    held = arguments.wait_for_reservation(body, patience)
    if not held.is_new and held.facts["kind"] == "manual":
        sys.stderr.write(_used(held, kept=note is None and user is None))
    arguments.mention_vendor(held, vendor or gpu_ids or mig)
    if path.rpartition("/")[2] in ENGINES:
        from canhazgpu.cli.syntax import container_command  # noqa: PLC0415 - only for these

        try:
            command = container_command.with_variables(command, held.environment)
        except container_command.TooMany as error:
            fail(f"{error}; reserve more with `canhazgpu run --gpus N`, or use --gpus all", REFUSED)
    become(path, command, held.environment)


def _used(held: Reservation, *, kept: bool) -> str:
    """Return the line that says which reservation is used, and whether a note or a label was `kept`."""
    ends = f"which expires in {arguments.remaining_time(held.facts)}"
    lost = "" if kept else "; --note and --user are only for new ones"
    return (
        f"Using {arguments.format_gpus(held.gpus)} of your reservation {held.id}, {ends};"
        f" --new reserves others{lost}\n"
    )


def _dashes_missing(context: typer.Context) -> NoReturn:
    from canhazgpu.cli.syntax.run_line import DASHES, with_dashes  # noqa: PLC0415 - only after a mistake

    words = sys.argv[sys.argv.index("run") + 1 :] if "run" in sys.argv else []
    valued = {"--config"} | {  # main.py takes it
        name
        for one in context.command.params
        for name in one.opts
        if one.param_type_name == "option" and not getattr(one, "is_flag", True)
    }
    fail(with_dashes(words, valued) or f"{DASHES}: {RUN}", USAGE)


def look_up(command: list[str]) -> str:
    """Return the path of a command's program; exit if it cannot be executed."""
    name, found = command[0], find(command[0])
    if found and name not in WITHOUT_EFFECT:
        return found
    from canhazgpu.cli.syntax.run_line import no_program  # noqa: PLC0415 - only after a mistake

    if hint := no_program(command):
        fail(f"{hint}; nothing was reserved", NOT_FOUND)
    shown = printable(name) if name.strip() else f"'{name}'"
    if os.path.exists(name) if "/" in name else find(name, os.F_OK):  # noqa: PTH110 - pathlib costs time
        fail(f"{shown} is not executable; nothing was reserved", NOT_EXECUTABLE)
    return fail(f"{shown}: command not found; nothing was reserved", NOT_FOUND)


def become(path: str, command: list[str], changes: dict[str, str]) -> NoReturn:
    """Replace this process with the command, in an environment with `changes`; never returns."""
    environment = {**os.environ, **changes}
    if "LC_CTYPE" not in _first_environment():  # Python sets it where the locale is C.
        environment.pop("LC_CTYPE", None)
    sys.stdout.flush()
    sys.stderr.flush()
    signals: Any = __import__("_signal")  # The module `signal` would load `enum`, which costs time.
    for number in (signals.SIGPIPE, signals.SIGXFSZ):  # Python ignores these.
        signals.signal(number, signals.SIG_DFL)
    if os.geteuid() == 0:
        _keep_descendants()
    try:
        _execute(path, command, environment)
    except OSError as error:
        fail(f"{printable(command[0])} cannot be run: {error.strerror}", NOT_EXECUTABLE)


def _keep_descendants() -> None:
    """Make this process the parent of its orphaned descendants, also after execve(2).

    Only root's: a command that does not wait for children it does not know collects zombies, and the
    processes of other callers have their own uid unless they go through sudo or su.
    """
    import ctypes  # noqa: PLC0415 - only here

    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _execute(path: str, command: list[str], environment: dict[str, str]) -> NoReturn:
    """Execute the command like execvp(3): a script without an interpreter line is run by the shell."""
    try:
        os.execve(path, command, environment)  # noqa: S606 - no shell is wanted
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
    os.execve(SHELL, [SHELL, path, *command[1:]], environment)  # noqa: S606 - the script's own


def _first_environment() -> set[str]:
    try:
        with open("/proc/self/environ", "rb") as file:  # noqa: PTH123 - pathlib costs time
            text = file.read()
    except OSError:
        return {"LC_CTYPE"}
    return {entry.partition(b"=")[0].decode("utf-8", "replace") for entry in text.split(b"\0")}
