"""TCP ports for servers of tests; two test runs at the same time never choose the same one."""

import atexit
import random
import socket

FIRST, LAST = 10_000, 22_000  # Below the ports that the kernel gives to clients, also those 10000 above.
_held: list[socket.socket] = []


@atexit.register
def _let_go() -> None:
    for one in _held:
        one.close()


def free_port() -> int:
    """Return a port nobody listens on, and nor on the one 10000 above, which a Cluster's node takes."""
    for port in random.sample(range(FIRST, LAST), LAST - FIRST):
        if _is_free(port) and _is_free(port + 10_000) and _hold(port):
            return port
    raise RuntimeError("no port is free")


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _hold(port: int) -> bool:
    """Keep it from other tests until this process ends: a server may be started again on it."""
    one = socket.socket(socket.AF_UNIX)
    try:
        one.bind(f"\0canhazgpu-test-port-{port}")
    except OSError:
        one.close()
        return False
    _held.append(one)
    return True
