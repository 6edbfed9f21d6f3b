"""Explains why Redis does not answer, from the state of its process and its disk."""

import time
from urllib.parse import urlsplit

from canhazgpu.events.linux.process_state import halt_reason, listener_pid
from canhazgpu.events.redis_client.store import TRY_AGAIN, StoreDown
from canhazgpu.service.redis_server.disk_space import exhausted_resource
from canhazgpu.service.redis_server.embedded import STEADY, EmbeddedRedis

SILENCE = "Redis does not answer"


class Outage:
    """Finds the cause of a StoreDown. `embedded` is the embedded server, if there is one."""

    def __init__(self, url: str, embedded: EmbeddedRedis | None) -> None:
        """Store the parameters."""
        self._embedded = embedded
        parts = urlsplit(url)
        self._path = parts.path if parts.scheme == "unix" else ""

    def explain(self, down: StoreDown) -> tuple[str, str]:
        """Return the cause and the remedy."""
        if halt := self.halt():
            return halt
        if self._embedded:
            full = exhausted_resource(self._embedded.folder)
            if full:
                return f"{SILENCE}: no {full} left on {self._embedded.folder.parent}", "free some space there"
            if self._embedded.obstacle:
                return f"{SILENCE}: {self._embedded.obstacle}", "fix this; it is then started automatically"
            died = self._embedded.died
            if died is not None and time.monotonic() - died < STEADY:
                said = f"{SILENCE}: it ended with: {self._embedded.last_words}"
                return said, f"it is being restarted; see its log {self._embedded.output}"
        return str(down), TRY_AGAIN

    def halt(self) -> tuple[str, str] | None:
        """Return why the process of a local Redis does nothing, and the remedy, or None."""
        pid = self._pid()
        halt = halt_reason(pid) if pid else None
        return (f"{SILENCE}: it (PID {pid}) {halt[0]}", f"to resume it: {halt[1]}") if halt else None

    def _pid(self) -> int | None:
        if not self._path:
            return None
        return listener_pid(self._path) or (self._embedded.pid if self._embedded else None)
