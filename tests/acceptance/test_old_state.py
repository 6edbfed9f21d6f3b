"""State that an older version stored is read by this one: nothing is lost, and it follows the cards.

`tests/old_state/record` wrote it with that version; its docstring says what there was.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import RedisError
from support.daemon import Daemon, gpu, until, use
from support.redis import redis_binary

from canhazgpu.client import Client
from canhazgpu.events.envelope import decode
from canhazgpu.events.linux.processes import START_FIELD

STATE = Path(__file__).parents[1] / "old_state" / "0123249.json"
BEFORE = "ABCDEFGH"
NOW = "BCAHGEFD"  # The cards by index: the driver numbers all but F anew.
EVE = use(1, 1024, "eve", "python3")


def uuid(card: str) -> str:
    """Return the UUID of a card."""
    return f"GPU-{card.lower() * 8}-0000-0000-0000-00000000000{BEFORE.index(card) + 1}"


def place(host: Daemon, *, eve: bool) -> None:
    """Write the cards as they are numbered now; eve uses D, or none."""
    on_d = [EVE] if eve else []
    host.place(
        *(gpu(index, *(on_d if card == "D" else []), uuid=uuid(card)) for index, card in enumerate(NOW))
    )


@pytest.fixture
def redis(folder: Path) -> Iterator[Any]:
    """An external Redis."""
    words = [redis_binary(), *f"--port 0 --unixsocket {folder}/r --dir {folder} --save".split(), ""]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    try:
        client = Redis(unix_socket_path=str(folder / "r"))
        until(lambda: _answers(client))
        yield client
    finally:
        process.kill()
        process.wait()


def _answers(client: Any) -> bool:
    try:
        return bool(client.ping())
    except RedisError:
        return False


@pytest.fixture
def run() -> Iterator["subprocess.Popen[bytes]"]:
    """The process of the run, which is still alive."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def host(folder: Path, redis: Any, run: "subprocess.Popen[bytes]") -> Iterator[Daemon]:
    """A service on the state of the older version."""
    start = Path(f"/proc/{run.pid}/stat").read_bytes().rpartition(b") ")[2].split()[START_FIELD]
    for words in json.loads(STATE.read_text()):
        redis.execute_command(*words)
    (key,) = redis.keys("*:reservations")
    for name, text in redis.hgetall(key).items():
        record = json.loads(text)
        if record["kind"] == "run":
            redis.hset(key, name, json.dumps(record | {"pid": run.pid, "start": int(start)}))
    daemon = Daemon(folder, f'[redis]\nurl = "unix://{folder}/r"\n')
    place(daemon, eve=True)
    yield daemon.start()
    daemon.stop()


def cards(host: Daemon) -> dict[str, dict[str, Any]]:
    """Return `status` of each card."""
    rows = json.loads(host.run("status", "--json").stdout)
    assert [row["uuid"] for row in rows] == [uuid(card) for card in NOW]
    return {NOW[row["gpu_id"]]: row for row in rows}


def events(redis: Any, kind: str) -> list[dict[str, Any]]:
    """Return the data of the events of a type, including those of the older version."""
    found = [decode(fields) for _, fields in redis.xrange("canhazgpu:{testhost}:events")]
    return [one.data for one in found if one.type == f"canhazgpu.{kind}"]


def test_nothing_is_lost_of_an_older_versions_state(
    host: Daemon, redis: Any, run: "subprocess.Popen[bytes]"
) -> None:
    """Reservations, a live run, a violation, a drain, the queue and a silence follow their cards."""
    (waiting,) = Client(f"{host.folder}/s").get("/v1/queue")  # First: its client has 15 seconds to come back.
    assert (waiting["user"], waiting["gpus"]) == ("daemon", [NOW.index("A")])
    kept = {one["gpu"]: one for one in json.loads(host.run("violations", "--open", "--json").stdout)}
    now = cards(host)
    stored = json.loads(STATE.read_text())
    held = next(words for words in stored if words[1].endswith(":reservations"))
    before = {BEFORE[gpu]: record for record in map(json.loads, held[3::2]) for gpu in record["gpus"]}
    assert {card: row["reservation"]["id"] for card, row in now.items() if row["reservation"]} == {
        card: record["id"] for card, record in before.items()
    }
    assert [now[card]["reservation"]["user"] for card in "ABCG"] == ["root", "daemon", "daemon", "root"]
    assert now["A"]["reservation"]["note"] == "long"
    assert {card: now[card]["status"] for card in "DEFH"} == {
        "D": "UNRESERVED",
        "E": "DRAINED",
        "F": "UNMANAGED",
        "H": "AVAILABLE",
    }
    assert now["E"]["reason"] == "noisy fan"
    assert now["H"]["last_released"]
    (opened,) = events(redis, "violation.opened")
    assert {index: one["violation"] for index, one in kept.items()} == {NOW.index("D"): opened["violation"]}
    assert (opened["user"], kept[NOW.index("D")]["gpu_uuid"]) == ("eve", uuid("D"))
    (silence,) = redis.hvals("canhazgpu:{testhost}:silences") or [b'{"user":"eve"}']  # It lasts for 30 days.
    assert json.loads(silence)["user"] == "eve"
    place(host, eve=False)
    until(lambda: events(redis, "violation.closed"))
    assert [one["violation"] for one in events(redis, "violation.closed")] == [opened["violation"]]
    run.kill()
    run.wait()
    until(lambda: cards(host)["G"]["status"] == "AVAILABLE")
    assert host.run("release", "--gpu-ids", str(NOW.index("A"))).returncode == 0
    released = events(redis, "reservation.released")
    assert [(one["user"], one["reason"]) for one in released] == [
        ("root", "released"),
        ("root", "exited"),
        ("root", "released"),
    ]
    assert {fact["user"] for fact in host.facts()} <= {"eve"}
    log = host.log.read_text()
    assert not [word for word in ("unreadable", "Traceback", "redis_lost_state") if word in log], log
