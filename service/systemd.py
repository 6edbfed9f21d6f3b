"""Notifies systemd that the daemon is ready, is stopping, and still makes progress (sd_notify)."""

import os
import socket
import time

import anyio

from canhazgpu.service.gpus.scanner import Scanner

NO_PROGRESS = 30.0  # Seconds without a finished scan; a scan with a hanging GPU finishes much earlier.


def notify(state: str) -> None:
    """Send `state`, such as `READY=1`, to the service manager, if there is one."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError:  # It does not matter if nobody listens.
            return


async def watchdog(scanner: Scanner) -> None:
    """Send keep-alives to the service manager as long as the scanner makes progress."""
    interval = int(os.environ.get("WATCHDOG_USEC", "0")) / 2_000_000
    if not interval:
        return
    while True:
        if time.monotonic() - scanner.progress < NO_PROGRESS:
            notify("WATCHDOG=1")
        await anyio.sleep(interval)
