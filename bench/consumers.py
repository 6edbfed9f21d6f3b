"""Consumers in three groups whose workers are killed all the time, and the throughput beside bare redis-py.

`python -m bench.consumers 10000000` does it with so many events. They are appended as the service does, and
trimmed below what every group has acknowledged.
"""

import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from bench.consumer_worker import RECORD, STREAM
from canhazgpu.service.redis_server.server_program import any_server

GROUPS = ("billing", "tickets", "archive")
GPUS = 8
EVENTS = 100_000
CHUNK = 1_000  # Entries per call of the script.
AHEAD = 50_000  # Entries that the slowest group may be behind.
KILLED_AFTER = (1.0, 4.0)  # Seconds; one worker each time, once it has handled something.
ROUNDS = 3
STUCK = 120.0  # Seconds without progress.
SAID = 30.0  # Seconds between two lines about progress.
APPEND = """
for number = ARGV[1] + 0, ARGV[2] + 0 do
  redis.call('XADD', KEYS[1], string.format('1795600000000-%.0f', number), 'id', '1795600000000-' .. number,
    'source', '//bench/canhazgpu', 'specversion', '1.0', 'type', 'canhazgpu.gpu.changed',
    'subject', 'gpu/' .. number % 8, 'time', '2026-11-25T09:46:40.000Z',
    'datacontenttype', 'application/json',
    'data', '{"index": ' .. number % 8 .. ', "uuid": "GPU-' .. number % 8 .. '", "name": "H100",'
      .. '"state": "ok", "reason": null, "in_use": true, "users": ["alice"], "memory_mb": 40960, "number": '
      .. number .. '}')
end
"""


@contextmanager
def server(folder: Path) -> Iterator[tuple[str, Any]]:
    """Run a Redis as the service runs its own; yield its socket and a client."""
    socket = str(folder / "r.sock")
    words = [any_server(), "--port", "0", "--unixsocket", socket, "--dir", str(folder), "--save", ""]
    words += ["--appendonly", "yes", "--appendfsync", "always"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    client = Redis(unix_socket_path=socket, protocol=2)
    try:
        while True:
            try:
                client.ping()
                break
            except RedisError:
                if process.poll() is not None:
                    raise
                time.sleep(0.05)
        yield socket, client
    finally:
        client.close()
        process.kill()
        process.wait()


class Workers:
    """One worker for each group; a killed one is started again at once."""

    def __init__(self, socket: str, folder: Path) -> None:
        """Start them all."""
        self._socket, self._folder = socket, folder
        self.kills = 0
        self._size: dict[str, int] = {}
        self._running = {group: self._start(group) for group in GROUPS}

    def _start(self, group: str) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "bench.consumer_worker", "library", self._socket]
        self.notes(group).touch()
        self._size[group] = self.notes(group).stat().st_size
        return subprocess.Popen([*words, group, str(self.notes(group)), "0"])

    def notes(self, group: str) -> Path:
        """Return the file with the numbers of the events that a group has handled."""
        return self._folder / f"{group}.notes"

    def kill(self, group: str, least: int) -> bool:
        """Kill a worker in the middle of whatever it does, once it has handled so many; return whether."""
        worker = self._running[group]
        handled = (self.notes(group).stat().st_size - self._size[group]) // RECORD.size
        if worker.poll() is None and handled < least:
            return False
        if worker.poll() is not None:
            raise RuntimeError(f"the worker of {group} ended by itself")
        worker.kill()
        worker.wait()
        self.kills += 1
        self._running[group] = self._start(group)
        return True

    def stop(self) -> None:
        """End them."""
        for worker in self._running.values():
            worker.kill()
            worker.wait()


def survive(
    folder: Path,
    events: int,
    killed_after: tuple[float, float] = KILLED_AFTER,
    *,
    least: int = 1,
    quiet: bool = True,
) -> "tuple[int, float, list[Judgement]]":
    """Let three groups handle so many events; return the kills, the seconds, a judgement for each group."""
    choice = random.Random(events)  # noqa: S311 - seeded, not cryptography
    with server(folder) as (socket, client):
        for group in GROUPS:
            client.xgroup_create(STREAM, group, id="0", mkstream=True)
        append, workers = client.register_script(APPEND), Workers(socket, folder)
        began = moved = said = time.monotonic()
        kill_at = began + choice.uniform(*killed_after)
        appended = finished = 0
        try:
            while finished < events:
                if appended < events and appended - finished < AHEAD:
                    last = min(events, appended + CHUNK)
                    append(keys=[STREAM], args=[appended + 1, last])
                    appended = last
                else:
                    time.sleep(0.02)
                now = time.monotonic()
                if now >= kill_at and workers.kill(choice.choice(GROUPS), least):
                    kill_at = now + choice.uniform(*killed_after)
                before, finished = finished, acknowledged(client)
                if finished != before:
                    moved = now
                    client.xtrim(STREAM, minid=f"1795600000000-{finished}", approximate=True)
                if now - moved > STUCK:
                    raise RuntimeError(f"no progress after {finished} events")
                if not quiet and now - said > SAID:
                    said = now
                    print(f"{finished} of {events}, {workers.kills} kills, {now - began:.0f} s", flush=True)
            seconds = time.monotonic() - began
            return workers.kills, seconds, [judge(workers.notes(one), events) for one in GROUPS]
        finally:
            workers.stop()


def acknowledged(client: Any) -> int:
    """Return the number up to which every group has acknowledged everything."""
    least = []
    for group in client.xinfo_groups(STREAM):
        oldest = client.xpending(STREAM, group["name"])["min"]
        last = int(group["last-delivered-id"].partition(b"-")[2])
        least.append(int(oldest.partition(b"-")[2]) - 1 if oldest else last)
    return min(least)


class Judgement:
    """What a group has handled, compared with what it had to."""

    def __init__(self, lost: int, repeated: int, misplaced: int) -> None:
        """Store how many events were never handled, handled again, and first handled too late."""
        self.lost, self.repeated, self.misplaced = lost, repeated, misplaced


def judge(notes: Path, events: int) -> Judgement:
    """Compare the numbers in the file with 1 to `events`: of each GPU, in the order of the stream."""
    seen, last = bytearray(events + 1), [0] * GPUS
    repeated = misplaced = 0
    with notes.open("rb") as file:
        while text := file.read(RECORD.size * 4096):
            for (number,) in RECORD.iter_unpack(text):
                if seen[number]:
                    repeated += 1
                    continue
                seen[number] = 1
                misplaced += number < last[number % GPUS]
                last[number % GPUS] = number
    return Judgement(events - sum(seen), repeated, misplaced)


def throughput(folder: Path, events: int, kinds: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Return for each kind of worker how long it takes and its processor time, per million events."""
    with server(folder) as (socket, client):
        append = client.register_script(APPEND)
        for first in range(1, events + 1, CHUNK):
            append(keys=[STREAM], args=[first, min(events, first + CHUNK - 1)])
        found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
        for turn in range(ROUNDS):
            for kind in kinds:
                client.xgroup_create(STREAM, f"{kind}-{turn}", id="0")
                words = [sys.executable, "-m", "bench.consumer_worker", kind, socket, f"{kind}-{turn}"]
                said = subprocess.run(
                    [*words, str(folder / "notes"), str(events)], capture_output=True, text=True, check=True
                )
                elapsed, used = map(float, said.stdout.split())
                found[kind].append((elapsed, used))
    return {
        kind: (
            statistics.median(one[0] for one in turns) / events * 1e6,
            statistics.median(one[1] for one in turns) / events * 1e6,
        )
        for kind, turns in found.items()
    }


def measure(events: int = EVENTS, *, quiet: bool = True) -> Iterator[str]:
    """Yield the figures."""
    folder = Path(tempfile.mkdtemp(prefix="chg-bench-", dir="/tmp"))
    try:
        kinds = ("library", "redis-py", "redis-py-asyncio")
        for kind, (elapsed, used) in throughput(folder, min(events, EVENTS), kinds).items():
            yield f"{kind}: {1e6 / elapsed:.0f} events per second, {used:.0f} µs of a processor for each"
        shutil.rmtree(folder)
        folder.mkdir()
        kills, seconds, judgements = survive(folder, events, quiet=quiet)
        yield f"{events} events, {len(GROUPS)} groups, {kills} kills: {seconds:.0f} s"
        for group, one in zip(GROUPS, judgements, strict=True):
            yield (
                f"{group}: {one.lost} lost, {one.misplaced} out of order for its GPU,"
                f" {one.repeated} handled again"
            )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    for line in measure(int(sys.argv[1]) if len(sys.argv) > 1 else EVENTS, quiet=False):
        print(line, flush=True)
