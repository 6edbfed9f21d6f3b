"""Releases the reservation of a kernel when the kernel ends, however it ends.

A small process of its own waits for the end of its standard input, which the kernel holds open. It has left
the kernel's process group and its children, so that it outlives both Jupyter's signals to them. Processes
forked from the kernel hold the input open too: while they live, they may use the GPUs.
"""

import os
import subprocess
import sys
import time
from typing import BinaryIO

from canhazgpu.client.connection import Client, Refused, Unreachable
from canhazgpu.client.reservations import post

ATTEMPTS, PAUSE = 120, 5.0  # Seconds. After ten minutes without a service, the reservation is left to expire.
SERVER_ERROR = 500  # From this status on, the service cannot do it now.


class KernelEnd:
    """The process that waits for the end of this one, to release a reservation."""

    def __init__(self, reservation: str) -> None:
        """Start it for the reservation with this id. Raises OSError if it cannot start."""
        words = [sys.executable, "-P", "-m", __name__, reservation]
        with subprocess.Popen(  # It returns when the process that waits has been forked.
            words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as starter:
            assert starter.stdin  # noqa: S101 - for mypy
            self._open: BinaryIO = os.fdopen(os.dup(starter.stdin.fileno()), "wb")
        if starter.returncode:
            raise OSError("the process that waits for the end of the kernel does not start")

    def close(self) -> None:
        """Let it release the reservation now, or only end if that has been released."""
        self._open.close()


def main(reservation: str) -> None:
    """Leave the kernel's children, wait for its end, and release."""
    client = Client()  # While the settings file is there.
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir("/")
    while os.read(0, 4096):
        pass
    for _ in range(ATTEMPTS):
        try:
            post(client, "/v1/reservations/release", {"ids": [reservation]})
        except (Unreachable, Refused) as trouble:  # It may be starting again.
            if isinstance(trouble, Refused) and trouble.status < SERVER_ERROR:
                return
            time.sleep(PAUSE)
        else:
            return


if __name__ == "__main__":
    main(sys.argv[1])
