"""The lab's Redis: a real one, killed and started again, durable to the last answer."""

import subprocess
import time
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from canhazgpu.service.redis_server.server_program import any_server

PATIENCE = 60.0


class LabRedis:
    """One redis-server in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        """Start it."""
        self._folder = folder
        folder.mkdir()
        self.url = f"unix://{folder}/s"
        self.start()

    def start(self) -> None:
        """Start it, or again after it was killed, and wait until it answers."""
        server = any_server()
        words = [
            *("--port", "0", "--unixsocket", f"{self._folder}/s", "--dir", str(self._folder)),
            *("--appendonly", "yes", "--appendfsync", "no", "--save", "", "--loglevel", "warning"),
        ]  # Nothing need be forced to the disk: it is killed, the machine is not.
        self._process = subprocess.Popen([server, *words], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE
        with Redis(unix_socket_path=f"{self._folder}/s") as client:
            while True:
                try:
                    client.ping()
                except (RedisError, OSError):
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.005)
                else:
                    return

    def kill(self) -> None:
        """Kill it with signal 9."""
        self._process.kill()
        self._process.wait()
