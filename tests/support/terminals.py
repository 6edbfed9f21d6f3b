"""What a command has written to a pseudo-terminal."""

import os


def read_all(master: int) -> bytes:
    """Return everything until its other side is closed, and close it."""
    shown = b""
    try:
        while chunk := os.read(master, 65536):
            shown += chunk
    except OSError:  # EIO: everything was read.
        pass
    os.close(master)
    return shown
