"""The command `canhazgpu`, also called `chg`. It stays light: commands import what they need when called."""

import io
import os
import sys

from canhazgpu.client import BadSettings, Refused, Unreachable
from canhazgpu.client.connection import WAITING, WARNED, read_settings

NAME = "canhazgpu"
BAD_REQUEST = 400


def main() -> None:
    """Run the command line; every trouble is one line on standard error and an exit code."""
    words = sys.argv[1:]
    _have_streams()
    WAITING[:], WARNED[:] = [_say_on_terminal], [_warn]
    try:
        sys.exit(_run(_take_config(words)))
    except BadSettings as error:
        sys.exit(_complain(str(error), 2))
    except Unreachable as error:
        sys.exit(_complain(str(error), 3))
    except Refused as error:
        sys.exit(_complain(str(error), 2 if error.status == BAD_REQUEST else 1))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        _drop_output()
        sys.exit(0)
    except OSError as error:  # What commands do beside writing has errors of its own.
        _drop_output()
        sys.exit(_complain(f"the output cannot be written: {error.strerror or error}", 1))


def _run(words: list[str]) -> int:
    if words in (["status"], ["status", "--json"]):  # Called most, by scripts too: without the framework.
        from canhazgpu.cli.status import show  # noqa: PLC0415

        show(as_json=len(words) > 1)
        sys.stdout.flush()
        return 0
    from canhazgpu.cli.commands import run  # noqa: PLC0415 - it takes longer than many a command

    code = run(words)
    sys.stdout.flush()
    return code


def _have_streams() -> None:
    """Open what the caller closed: a write has to go somewhere, and never to a socket of ours."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
            if number:
                stream = open(number, "w", closefd=False)  # noqa: SIM115 - for the whole process
                sys.stdout, sys.stderr = (stream, sys.stderr) if number == 1 else (sys.stdout, stream)

    for output in (sys.stdout, sys.stderr):  # Where a locale has no such letter it is spelled out.
        if isinstance(output, io.TextIOWrapper):
            output.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # What is still buffered has no reader either.


def _take_config(words: list[str]) -> list[str]:
    """Let `--config FILE` stand anywhere before `--`; it holds for this process and what it starts."""
    end = words.index("--") if "--" in words else len(words)
    for position, word in enumerate(words[:end]):
        name, equals, value = word.partition("=")
        if name != "--config":
            continue
        if not equals and position + 1 >= end:
            return words
        os.environ["CANHAZGPU_CONFIG"] = _usable(value if equals else words[position + 1])
        return words[:position] + words[position + (1 if equals else 2) :]
    return words


def _usable(path: str) -> str:
    """Return a settings file that was named here; raise BadSettings whether the command needs it or not."""
    if not path:
        raise BadSettings("--config: it is empty: leave the option out, or name a file")
    if os.path.isfile(path) or not os.path.exists(path):  # noqa: PTH110, PTH113 - a pipe can be read once
        read_settings(path)
    return path


def _say_on_terminal(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def _warn(text: str) -> None:
    sys.stderr.write(f"Warning: {' '.join(text.split())}\n")


def _complain(message: str, code: int) -> int:
    sys.stderr.write(f"Error: {' '.join(message.split())}\n")
    return code


if __name__ == "__main__":
    main()
