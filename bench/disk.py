"""A Redis that is as durable as the service's own."""

import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from canhazgpu.service.redis_server.server_program import any_server


@contextmanager
def durable_redis(options: Sequence[str] = ()) -> Iterator[Path]:
    """Run one with further options; yield its folder, with the socket `r`."""
    server = any_server()
    with tempfile.TemporaryDirectory(prefix="chg-bench-") as folder:
        words = ["--port", "0", "--unixsocket", f"{folder}/r", "--dir", folder, "--save", ""]
        process = subprocess.Popen(
            [server, *words, "--appendonly", "yes", "--appendfsync", "always", *options],
            stdout=subprocess.DEVNULL,
        )
        try:
            while not Path(folder, "r").exists():
                time.sleep(0.02)
            yield Path(folder)
        finally:
            process.terminate()
            process.wait()
