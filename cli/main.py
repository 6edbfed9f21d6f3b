"""The command `canhazgpu`, also called `chg`. To start quickly, it imports each command only when called.

The commands that start often do without the command framework, unless their line has to be explained.
"""

from __future__ import annotations

import io
import os
import sys

from canhazgpu.cli.exit_codes import (
    DONE,
    INTERRUPTED,
    REFUSED,
    UNREACHABLE,
    USAGE,
    CommandEnded,
    error_line,
    exit_code_for,
    use_run_codes,
)
from canhazgpu.cli.recognition.recognise import recognise
from canhazgpu.client.connection import WAITING, WARNED, BadSettings, Refused, Unreachable, read_settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

NAME = "canhazgpu"
# What the extra `service` brings along, by the names that are imported.
SERVICE_MODULES = frozenset(
    {"aiosmtplib", "anyio", "httpx", "psutil", "pynvml", "redis", "starlette", "structlog", "uvicorn"}
)
NO_SERVICE = (
    "this needs the packages of the service, and {} is not installed: pip install 'canhazgpu[service]'"
)
BAD_REQUEST = 400
NO_FILE = "--config needs the name of a settings file after it: --config FILE"
OURS = ("CANHAZGPU_CONFIG", "CANHAZGPU_SOCKET", "CANHAZGPU_RESERVATION", "CANHAZGPU_TOKEN")


def main() -> None:
    """Run the command line. Every failure is one line on standard error and an exit code."""
    arguments = sys.argv[1:]
    _reopen_closed_streams()
    WAITING[:], WARNED[:] = [_print_on_terminal], [_warn]
    if _command(arguments) == "run":
        use_run_codes()
    code = _outcome(arguments)
    if "canhazgpu.cli.commands" not in sys.modules:
        _leave(code)
    sys.exit(code)


def _outcome(arguments: list[str]) -> int:
    try:
        words = _take_config(arguments)
        _mention_ignored_settings(_command(arguments), named=words != arguments)
        code = _run(words)
        sys.stdout.flush()
    except BadSettings as error:
        code = _print_error(str(error), USAGE, "settings")
    except Unreachable as error:
        code = _print_error(str(error), UNREACHABLE)
    except Refused as error:
        code = _print_error(str(error), USAGE if error.status == BAD_REQUEST else REFUSED)
    except ModuleNotFoundError as error:
        if error.name not in SERVICE_MODULES:
            raise
        code = _print_error(NO_SERVICE.format(error.name), REFUSED)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        _drop_output()
        code = DONE
    except OSError as error:  # Only writing the output can raise this here.
        _drop_output()
        code = _print_error(f"the output cannot be written: {error.strerror or error}", REFUSED)
    return code


def _command(arguments: list[str]) -> str:
    """Return the name of the command, which may come after `--config FILE`."""
    words = iter(arguments)
    for word in words:
        if word == "--config":
            next(words, None)
        elif not word.startswith("--config="):
            return word
    return ""


def _run(arguments: list[str]) -> int:
    known = recognise(arguments)
    if sys.flags.no_site and (not known or arguments[0] == "serve"):
        import site  # noqa: PLC0415 - the commands that start often can do without it

        site.main()
    if known:
        module, function, values = known
        try:
            getattr(__import__(module, fromlist=[function]), function)(**values)
        except CommandEnded as end:
            return end.code
        return DONE
    from canhazgpu.cli.commands import run  # noqa: PLC0415 - slower than most commands

    return run(arguments)


def _leave(code: int) -> NoReturn:
    """End this process at once: to tidy up memory that is given back anyway takes a fifth of a command."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # After another failure, which has been reported.
        pass
    os._exit(code)


def _reopen_closed_streams() -> None:
    """Reopen standard streams that the caller closed, so that output never goes to one of our sockets."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
            if number:
                stream = open(number, "w", closefd=False)  # noqa: SIM115 - for the whole process
                sys.stdout, sys.stderr = (stream, sys.stderr) if number == 1 else (sys.stdout, stream)

    for output in (sys.stdout, sys.stderr):  # Escape characters that the locale does not have.
        if isinstance(output, io.TextIOWrapper):
            output.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Buffered output is dropped too.


def _take_config(arguments: list[str]) -> list[str]:
    """Accept `--config FILE` anywhere before `--`; it applies to this process and its children.

    After `run`, it ends at the command too: without its `--`, the option is that of the command.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    if _command(arguments) == "run":
        end = min(end, _command_of_run(arguments))
    for position, word in enumerate(arguments[:end]):
        name, equals, value = word.partition("=")
        if name != "--config":
            continue
        following = "" if equals or position + 1 >= end else arguments[position + 1]
        if not equals and (not following or (following[0] == "-" and not os.path.exists(following))):  # noqa: PTH110
            raise BadSettings(NO_FILE)
        os.environ["CANHAZGPU_CONFIG"] = _usable(value if equals else following)
        return arguments[:position] + arguments[position + (1 if equals else 2) :]
    return arguments


def _command_of_run(arguments: list[str]) -> int:
    """Return where the command of `run` begins: at a word that is neither an option nor follows one."""
    start = arguments.index("run") + 1
    for position in range(start, len(arguments)):
        options = [word.startswith("-") for word in arguments[position - 1 : position + 1]]
        if not options[1] and (position == start or not options[0]):
            return position
    return len(arguments)


def _mention_ignored_settings(command: str, *, named: bool) -> None:
    """Say which settings of --config (`named`) and of the environment are only for the service."""
    if not named and all(name in OURS for name in os.environ if name.startswith("CANHAZGPU_")):
        return
    from canhazgpu.cli.syntax.service_settings import note  # noqa: PLC0415 - rarely needed

    sys.stderr.write(note(command, os.environ, os.environ.get("CANHAZGPU_CONFIG") if named else None))


def _usable(path: str) -> str:
    """Return the path of a readable settings file; raise BadSettings even if the command does not need it."""
    if not path:
        raise BadSettings("--config: the value is empty: leave the option out, or name a file")
    if os.path.isfile(path) or not os.path.exists(path):  # noqa: PTH110, PTH113 - a pipe can be read once
        read_settings(path)
    return path


def _print_on_terminal(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def _warn(text: str) -> None:
    sys.stderr.write(f"Warning: {' '.join(text.split())}\n")


def _print_error(message: str, code: int, kind: str = "") -> int:
    sys.stderr.write(error_line(message, code, kind))
    return exit_code_for(code)


if __name__ == "__main__":
    main()
