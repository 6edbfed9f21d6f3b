"""The exporter: opens its parts in order, with the port last, and runs until it is stopped."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import NoReturn

from canhazgpu.cli.exporter.fleet_figures import fleet_registry
from canhazgpu.cli.exporter.host_metrics import PATIENCE, HostMetrics
from canhazgpu.cli.exporter.http_server import MetricsServer
from canhazgpu.client.connection import WAITING, WARNED, Client

PROGRAM = "canhazgpu exporter"
TURN = 3600.0  # Seconds between looks at whether the server was shut down, which nobody does.


def run(address: tuple[str, int], most_users: int) -> None:
    """Serve the metrics until SIGTERM or SIGINT. Raises OSError if the address cannot be used."""
    threading.excepthook = _end
    WAITING[:] = WARNED[:] = []  # What is wrong is said once, not with every answer.
    client, metrics = Client(patience=PATIENCE), HostMetrics(PROGRAM)
    registries = {"/metrics": metrics.registry, "/metrics/fleet": fleet_registry(client, PROGRAM)}
    with MetricsServer(address, registries) as server:
        metrics.start(client, most_users)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _stop)
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        sys.stderr.write(f"{PROGRAM}: metrics at http://{host}:{address[1]}/metrics\n")
        sys.stderr.flush()
        server.serve_forever(TURN)


def _end(crash: threading.ExceptHookArgs) -> NoReturn:
    """End the process if one of its threads crashes: else it would go on with counters that stand still."""
    sys.excepthook(crash.exc_type, crash.exc_value or crash.exc_type(), crash.exc_traceback)
    os._exit(1)


def _stop(number: int, frame: object) -> NoReturn:
    del number, frame
    sys.exit(0)
