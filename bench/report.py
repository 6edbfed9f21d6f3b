"""`canhazgpu report` over 400 days and 100 000 ended reservations: time, and memory of the service."""

import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import anyio

from bench.host import service
from bench.idle import cpu, processes
from bench.installed import installed
from canhazgpu.config.settings import Settings
from canhazgpu.events.redis_client.store import Store
from canhazgpu.events.timestamps import rfc3339
from canhazgpu.service.report.summing import Summing

ENTRIES, DAYS, GPUS, USERS = 100_000, 400, 8, 40
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
FILL = "import sys; from bench.report import fill_in; fill_in(sys.argv[1])"
ROUNDS, PIPED = 5, 1000
ASKED = {
    "by user, 7 days": ["--days", "7"],
    "by user, 400 days": ["--days", "400"],
    "by gpu, 400 days": ["--days", "400", "--by", "gpu"],
    "by day, 400 days": ["--days", "400", "--by", "day"],
    "by hour, 400 days, as CSV": ["--days", "400", "--by", "hour", "--csv"],
}


async def fill(store: Store, now_ms: int) -> float:
    """Write the past into Redis; return how long it takes to add it up."""
    chance, begin = random.Random(1), now_ms - DAYS * DAY_MS  # noqa: S311 - not a secret
    log: dict[str, list[str]] = defaultdict(list)
    ended = []
    for gpu in range(GPUS):
        each = (now_ms - begin) // (ENTRIES // GPUS)
        for turn in range(ENTRIES // GPUS):
            start, uid = begin + turn * each, 1000 + chance.randrange(USERS)
            end = start + chance.randrange(each // 10, each)
            ended.append((end, start, gpu, uid))
            used = [[start, "free", uid], [start + each // 20, "busy", uid, f"uid:{uid}"], [end, "free", -1]]
            for entry in used[1:]:
                log[f"log/{int(entry[0]) // HOUR_MS}/GPU-{gpu}"].append(json.dumps(entry))  # type: ignore[call-overload]
    await store.redis.delete(store.keys.ledger, store.keys.usage)
    await store.redis.hset(store.keys.usage, "summed", now_ms // HOUR_MS)  # The service waits so long.
    async with store.redis.pipeline(transaction=False) as pipe:
        for number, (end, start, gpu, uid) in enumerate(sorted(ended), 1):
            data = {
                "id": f"r{number}",
                "kind": "manual",
                "user": f"user{uid}",
                "uid": uid,
                "gpus": [gpu],
                "uuids": [f"GPU-{gpu}"],
                "started": rfc3339(start),
                "released": rfc3339(end),
                "reason": "released",
                "held_s": (end - start) // 1000,
            }
            fields = {
                "id": f"{end}-{number}",
                "source": "//bench/canhazgpu",
                "specversion": "1.0",
                "type": "canhazgpu.reservation.released",
                "subject": f"reservation/r{number}",
                "time": rfc3339(end),
                "datacontenttype": "application/json",
                "data": json.dumps(data),
            }
            pipe.xadd(store.keys.ledger, fields, id=f"{end}-{number}")  # type: ignore[arg-type]
            if number % PIPED == 0:
                await pipe.execute()
        for number, (name, entries) in enumerate(log.items(), 1):
            pipe.hset(store.keys.usage, name, ",".join(entries))
            if number % PIPED == 0:
                await pipe.execute()
        cards = {f"GPU-{gpu}": [begin, gpu] for gpu in range(GPUS)}
        pipe.hset(store.keys.usage, "cards", json.dumps(cards))
        await pipe.execute()
    await store.redis.hdel(store.keys.usage, "summed")
    began = time.perf_counter()
    await Summing(Settings(host="bench"), store).update()
    return time.perf_counter() - began


def fill_in(url: str) -> None:
    """Fill the Redis at `url`; print how long adding up takes, and how much memory it all needs."""

    async def prepare() -> tuple[float, int]:
        store = Store(url, "bench")
        took = await fill(store, await store.now_ms())
        size = await store.redis.memory_usage(store.keys.usage, samples=0)
        await store.close()
        return took, int(size or 0)

    print(json.dumps(anyio.run(prepare)))


def peak(pid: int) -> float:
    """Return the most memory that a process has had, in MB."""
    (line,) = [one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmHWM")]
    return int(line.split()[1]) * 1024 / 1e6


def once(command: list[str | Path], environment: dict[str, str]) -> tuple[float, float, float]:
    """Return how long a command takes, how much processor time it needs, and how many MB."""
    began = time.perf_counter()
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"{command} ends with {child.returncode}")
    return time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6


def measure() -> Iterator[str]:
    """Yield lines with the time of each report, of adding up, and the memory."""
    with installed() as programs, service(GPUS) as (folder, daemon):
        command = [
            sys.executable,
            "-c",
            FILL,
            f"unix://{folder}/state/redis/redis.sock",
        ]
        filled = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        took, size = json.loads(filled)
        yield f"adding up {DAYS} days with {ENTRIES} reservations, once after an upgrade: {took:.1f} s"
        yield f"the log, the reservations and the sums of them in Redis: {size / 1e6:.1f} MB"
        environment = {**os.environ, "CANHAZGPU_CONFIG": str(folder / "config.toml")}
        before = peak(daemon.pid)
        tree, most = processes(daemon.pid), 0.0
        for name, words in ASKED.items():
            pairs, spent = [], cpu(tree)
            for _ in range(ROUNDS):  # In turns, so that a busy moment of the machine hits both.
                least = once([programs / "python", "-c", "pass"], environment)
                pairs.append((once([programs / "canhazgpu", "report", *words], environment), least))
            spent = (cpu(tree) - spent) / ROUNDS
            most = max(most, *(pair[0][2] for pair in pairs))
            (took, least_took), own = (
                [statistics.median(pair[side][0] for pair in pairs) * 1000 for side in (0, 1)],
                statistics.median(pair[0][1] for pair in pairs) * 1000,
            )
            yield (
                f"{name}: {took:.0f} ms, of the processor {own:.0f} ms and {spent * 1000:.0f} ms of the"
                f" service; `python -c pass`: {least_took:.0f} ms, ratio {took / least_took:.1f}"
            )
        yield (
            f"memory of the service: {before:.0f} MB before, {peak(daemon.pid):.0f} MB at most;"
            f" of a command at most {most:.0f} MB; load {os.getloadavg()[0]:.0f}"
        )
