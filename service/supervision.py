"""What systemd is told: that the daemon is ready, stops, and still makes progress."""

import os
import socket
import time

import anyio

from canhazgpu.service.scanner import Scanner

NO_PROGRESS = 30.0  # Seconds without a finished turn of the scanner; a hung GPU ends its turn long before.


def notify(state: str) -> None:
    """Send `state` (such as `READY=1`) to the supervisor, if there is one."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError:  # A supervisor that does not listen does not matter.
            return


async def watchdog(scanner: Scanner) -> None:
    """Tell the supervisor that all is well for as long as the scanner finishes its turns."""
    interval = int(os.environ.get("WATCHDOG_USEC", "0")) / 2_000_000
    if not interval:
        return
    while True:
        if time.monotonic() - scanner.progress < NO_PROGRESS:
            notify("WATCHDOG=1")
        await anyio.sleep(interval)
