"""`canhazgpu status`: every GPU on one line."""

import os
import sys

from canhazgpu.cli.render import coloured, line
from canhazgpu.client import Client


def show(*, as_json: bool = False, colour: bool = True) -> None:
    """Print the host's GPUs. Raises what the client raises."""
    gpus = Client().status()
    if as_json:
        import json  # noqa: PLC0415 - plain lines do not need it

        sys.stdout.write(json.dumps(gpus, indent=2) + "\n")
        return
    bright = colour and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    sys.stdout.writelines((coloured(gpu) if bright else line(gpu)) + "\n" for gpu in gpus)
    if not gpus:
        sys.stderr.write("No GPU has been seen on this host: canhazgpu doctor says why\n")
