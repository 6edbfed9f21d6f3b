"""Runs `canhazgpu` for a notebook and shows its lines in the cell as they arrive."""

import subprocess
import sys
from collections.abc import Sequence
from threading import Thread

ERROR = "Error: "


class Failed(Exception):
    """The command failed; the message is its own."""


def output_of(words: Sequence[str]) -> str:
    """Return the standard output of `canhazgpu WORDS`. Raises Failed.

    What it says meanwhile, such as the position in the queue, is printed at once.
    """
    said: list[str] = []
    command = [sys.executable, "-P", "-m", "canhazgpu", *words]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout  # noqa: S101 - for mypy
        assert running.stderr  # noqa: S101
        collected: list[str] = []
        reader = Thread(target=lambda stream: collected.append(stream.read()), args=[running.stdout])
        reader.start()
        try:
            for line in running.stderr:
                if line.startswith(ERROR):
                    said.append(line.removeprefix(ERROR))
                else:
                    print(line, end="", flush=True)  # noqa: T201 - this is the output of the cell
        except BaseException:  # The user has interrupted the cell: the request leaves the queue.
            running.kill()
            raise
        finally:
            reader.join()
    output = "".join(collected)
    if running.returncode:
        raise Failed(" ".join("".join(said or [output]).split()) or f"exit code {running.returncode}")
    return output
