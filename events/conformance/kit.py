"""Runs a consumer against events of every type, as if it had been killed, and with entries that are missing.

The command gets CONFORMANCE_REDIS (URL), CONFORMANCE_STREAM (key) and CONFORMANCE_GROUP in its environment.
For each event, it prints a line of JSON with `stream_id`, `id`, `type`, `subject`, `time` and `data`, and
acknowledges it. For a gap, it prints `{"type": "canhazgpu.stream.gap", "data": {"missing": N}}`.
"""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from canhazgpu.events.conformance.samples import BEGAN_MS, events
from canhazgpu.events.envelope import GAP, Event
from canhazgpu.events.redis_client.keys import Keys

GROUP = "conformance"
PATIENCE = 30.0  # Seconds until a consumer has to have said something.
REMOVED = 5
ECHOED = ("id", "type", "subject", "time", "data")


class Kit:
    """One consumer, and a stream of its own."""

    def __init__(self, url: str, command: Sequence[str], patience: float = PATIENCE) -> None:
        """Store the parameters; `patience` is how long the consumer may take, in seconds."""
        self._url, self._command, self._patience = url, command, patience
        self._redis: Any = Redis.from_url(url, protocol=2)
        self._keys = Keys(f"conformance-{uuid.uuid4().hex[:12]}")
        self._process: subprocess.Popen[bytes] | None = None
        self._written: dict[str, Event] = {}
        self._folder = Path(tempfile.mkdtemp(prefix="chg-conformance-"))

    def checks(self) -> Iterator[tuple[str, Iterator[str]]]:
        """Yield each check, and what the consumer does differently from what it should.

        The checks are made one after the other: read the differences before the next one.
        """
        yield "events of every type", self.every_type()
        yield "after a kill", self.after_a_kill()
        yield "entries that were removed", self.gap()

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the stream and the files."""
        shutil.rmtree(self._folder)
        with suppress(RedisError):
            self._redis.delete(self._keys.events)
        self._redis.close()

    def every_type(self) -> Iterator[str]:
        """Yield what is different with an event of each type."""
        ids = self._append()
        with self._consumer("first") as said:
            if not self._waited(lambda: self._acknowledged(ids)):
                yield f"{self._ended()}, not every entry is acknowledged (XACK)"
            echoes = said()
        yield from self._compared(ids, echoes)

    def after_a_kill(self) -> Iterator[str]:
        """Yield what is different with entries that the consumer had read before it was killed."""
        ids = self._append()
        self._create_group()
        names = [one["name"] for one in self._redis.xinfo_consumers(self._keys.events, GROUP)]
        reader = names[0] if names else b"reader"
        self._redis.xreadgroup(GROUP, reader, {self._keys.events: ">"}, count=len(ids) // 2)
        with self._consumer("second") as said:
            if not self._waited(lambda: self._acknowledged(ids)):
                yield f"{self._ended()}, entries that it had read stay pending: read with the id 0 first"
            echoes = said()
        yield from self._compared(ids, echoes)

    def gap(self) -> Iterator[str]:
        """Yield what is different if entries are removed before they were read."""
        ids = self._append()
        self._redis.xtrim(self._keys.events, minid=ids[REMOVED], approximate=False)
        with self._consumer("third") as said:
            self._waited(lambda: self._acknowledged(ids))
            missing = [one["data"].get("missing") for one in said() if one.get("type") == GAP]
        if missing != [REMOVED]:
            yield f"{REMOVED} entries were removed before it read them, but it reports the gaps {missing}"

    def _append(self) -> list[str]:
        first, found = len(self._written) + 1, []
        for number, event in enumerate(events(f"//{self._keys.host}/canhazgpu"), first):
            entry = f"{BEGAN_MS + number}-{number}"
            self._redis.xadd(self._keys.events, event.to_fields(), id=entry)
            self._written[entry] = event
            found.append(entry)
        return found

    def _create_group(self) -> None:
        try:
            self._redis.xgroup_create(self._keys.events, GROUP, id="0")
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def _acknowledged(self, ids: list[str]) -> bool:
        groups = [one for one in self._redis.xinfo_groups(self._keys.events) if one["name"] == GROUP.encode()]
        return [(one["last-delivered-id"].decode(), one["pending"]) for one in groups] == [(ids[-1], 0)]

    def _waited(self, condition: Callable[[], bool]) -> bool:
        over = time.monotonic() + self._patience
        while True:
            is_over = time.monotonic() > over or (self._process and self._process.poll() is not None)
            if condition():  # It may have ended after it had done everything.
                return True
            if is_over:
                return False
            time.sleep(0.05)

    def _ended(self) -> str:
        status = self._process.poll() if self._process else None
        if status is None:
            return f"after {self._patience:g} s"
        return f"it ended by signal {-status}" if status < 0 else f"it exited with status {status}"

    @contextmanager
    def _consumer(self, turn: str) -> Iterator[Callable[[], list[dict[str, Any]]]]:
        """Run the command; yield what returns its lines. It is killed at the end."""
        path = self._folder / turn
        environment = {
            **os.environ,
            "CONFORMANCE_REDIS": self._url,
            "CONFORMANCE_STREAM": self._keys.events,
            "CONFORMANCE_GROUP": GROUP,
        }
        with path.open("wb") as output:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                env=environment,
                start_new_session=True,
            )
        self._process = process
        try:
            yield lambda: list(_lines(path))
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # Also what a wrapper has started.
            process.wait()

    def _compared(self, ids: list[str], echoes: list[dict[str, Any]]) -> Iterator[str]:
        said = {one.get("stream_id"): one for one in echoes}
        order = [entry for entry in said if entry in self._written]
        if order != sorted(order, key=list(self._written).index):
            yield "the events are not in the order of the stream"
        if ids and not order:
            yield f"it prints none of the {len(ids)} events as a line of JSON with its stream_id"
            return
        for entry in ids:
            event, echo = self._written[entry], said.get(entry)
            if echo is None:
                yield f"it does not print {event.type} ({entry})"
                continue
            wrong = [name for name in ECHOED if echo.get(name) != getattr(event, name)]
            if wrong:
                yield f"{event.type} ({entry}) has another {', '.join(wrong)}"


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_bytes().splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            yield found
