"""Executes the Redis server, after asking the kernel to end it together with the daemon.

Usage: `python -S launcher.py PARENT PROGRAM ARGS…`. It imports little, because Redis is not available
while it runs.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Run PROGRAM in this process; exit immediately if the parent is already gone."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)
    os.execv(program[0], program)  # noqa: S606


if __name__ == "__main__":
    main()
