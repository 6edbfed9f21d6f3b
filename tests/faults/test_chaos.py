"""Processes are killed at random while violations open and close: nothing is lost or duplicated."""

import bisect
import collections
import contextlib
import email
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from email import policy
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest
from redis import Redis
from redis.exceptions import RedisError
from support.eventually import slowness
from support.file_watch import watch
from support.people import Person, Terminal

from canhazgpu.cli.demo.mail_sink import MailSink
from canhazgpu.notifiers.audit_log.verification import verify

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "200"))
ENOUGH = ROUNDS // 16 + 1  # Events of violations; fewer prove nothing.
LATE = 3.0  # Seconds between a kill and what is still written by those who outlive it.
SEED = int(os.environ.get("CHAOS_SEED", "20261124"))
GPUS = 6
CONFIG = """\
host = "chaos"
socket = "{folder}/s"
state_dir = "{folder}/state"
[gpus]
provider = "simulated"
scenario = "{folder}/gpus.toml"
scan_interval = "100ms"
[violations]
confirm = "150ms"
[notices]
group_wait = "200ms"
resolve_hold = "0s"
group_interval = "0s"
[[notices.steps]]
channels = ["wall", "email"]
to = ["offender"]
[notify.log]
path = "{folder}/violations.log"
[notify.email]
enabled = true
host = "127.0.0.1"
port = {port}
user_address = "{{user}}@example.com"
"""


class Campaign:
    """A host whose daemon, worker and Redis are killed and restarted."""

    def __init__(self, folder: Path, person: Person, seed: int) -> None:
        self.mails = folder / "mail"
        self.mails.mkdir(parents=True)
        self.sink = MailSink(self.mails)
        Thread(target=self.sink.serve_forever, daemon=True).start()
        self.folder = folder
        self.person = person
        self.random = random.Random(seed)
        self.kills: list[tuple[float, str]] = []
        self.using: set[tuple[int, str]] = set()
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.log = (folder / "output.log").open("wb")
        (folder / "config.toml").write_text(CONFIG.format(folder=folder, port=self.sink.server_address[1]))
        self.place()

    def place(self) -> None:
        """Write the scenario: who uses which GPU."""
        lines = []
        for gpu in range(GPUS):
            lines.append(f'[[gpus]]\nindex = {gpu}\nname = "H100"\nmemory_total_mb = 81559\n')
            for number, user in enumerate((self.person.name, "carol")):
                if (gpu, user) in self.using:
                    lines.append(
                        f"[[gpus.processes]]\npid = {4_000_000 + gpu * 10 + number}\nmemory_mb = 900\n"
                        f'user = "{user}"\nname = "python3"\n'
                    )
        new = self.folder / "new.toml"
        new.write_text("\n".join(lines))
        new.rename(self.folder / "gpus.toml")

    def toggle(self) -> None:
        """Let a user start or stop."""
        self.using ^= {(self.random.randrange(GPUS), self.random.choice((self.person.name, "carol")))}
        self.place()

    def keep_running(self) -> None:
        """Restart everything that is not running."""
        for name, args in (("daemon", ["serve", "--no-workers"]), ("worker", ["worker"])):
            process = self.running.get(name)
            if process is None or process.poll() is not None:
                self.running[name] = subprocess.Popen(
                    [sys.executable, "-m", "canhazgpu.cli.main", *args],
                    env={**os.environ, "CANHAZGPU_CONFIG": str(self.folder / "config.toml")},
                    stdin=subprocess.DEVNULL,
                    stdout=self.log,
                    stderr=self.log,
                )

    def kill_in_the_act(self) -> None:
        """Kill the worker after it wrote to the log and before it acknowledges that."""
        log = self.folder / "violations.log"
        if log.exists():
            with watch(log) as written:
                written(2)
        self.kill("worker")

    def kill_one(self) -> None:
        """Kill the daemon, the worker or Redis."""
        self.kill(self.random.choice(("daemon", "worker", "redis")))

    def kill(self, victim: str) -> None:
        """Kill with signal 9."""
        self.kills.append((time.monotonic(), victim))
        if victim == "redis":
            for process in self._redis():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        else:
            self.running[victim].kill()
            self.running[victim].wait()

    def _redis(self) -> list[psutil.Process]:
        found = []
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self.running["daemon"].pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if "-server" in process.name() or "-server" in " ".join(process.cmdline()):
                        found.append(process)
        return found

    def redis(self) -> Redis:
        """Connect to the daemon's Redis."""
        return Redis(unix_socket_path=str(self.folder / "state" / "redis" / "redis.sock"))

    def settle(self) -> None:
        """Let everybody stop, and wait until every fact is logged and every notice delivered."""
        self.using.clear()
        self.place()
        deadline = time.monotonic() + 60 * slowness()
        while time.monotonic() < deadline:
            self.keep_running()
            with contextlib.suppress(Exception):
                if self._quiet():
                    return
            time.sleep(0.3)
        message = f"not settled: {self._state()}"
        raise AssertionError(message)

    def _state(self) -> dict[str, Any]:
        redis: Any = self.redis()
        base = "canhazgpu:{chaos}:"
        return {
            "open": redis.hlen(base + "violations:open"),
            "groups": redis.hlen(base + "notices:groups"),
            "backlog": [
                (stream, group[b"name"] if b"name" in group else group["name"], group["pending"])
                for stream in ("violations", "notices")
                for group in redis.xinfo_groups(base + stream)
                if group["pending"] or group["last-delivered-id"] != self._last(redis, base + stream)
            ],
        }

    def _last(self, redis: Any, stream: str) -> object:
        return redis.xinfo_stream(stream)["last-generated-id"]

    def _quiet(self) -> bool:
        return not any(self._state().values())

    def _facts(self) -> int:
        """Return how many events of violations there are; 0 while Redis restarts."""
        with contextlib.suppress(RedisError):
            return len(_data(self.redis(), "violations"))
        return 0

    def stop(self) -> None:
        """Stop both processes properly."""
        for process in self.running.values():
            process.send_signal(signal.SIGTERM)
        for process in self.running.values():
            process.wait(60)
        self.sink.shutdown()
        self.sink.server_close()
        self.log.close()

    def run(self, rounds: int) -> None:
        """Kill and restart, so many times, and until enough was seen; then let everything settle."""
        number = 0
        while number < rounds or self._facts() < ENOUGH:
            number += 1
            self.keep_running()
            self.toggle()
            if number % 4 == 3:
                self.kill_in_the_act()
                continue
            time.sleep(self.random.uniform(0.0, 1.2))
            self.kill_one()
        self.settle()


@pytest.mark.slow(75)
@pytest.mark.timeout(900)
def test_nothing_is_lost_or_doubled_under_kill_9(tmp_path: Path, people: list[Person]) -> None:
    """Each fact is one log line, each notice reaches the terminal, and repeated mails are recognisable.

    Two hosts are killed at the same time, each half of the rounds.
    """
    with contextlib.ExitStack() as closing, ThreadPoolExecutor() as pool:
        campaigns, terminals = [], []
        for number, person in enumerate(people):
            terminals.append(Terminal(person))
            closing.callback(terminals[-1].close)
            campaigns.append(Campaign(tmp_path / str(number), person, SEED + number))
            closing.callback(campaigns[-1].stop)
        for done in [pool.submit(campaign.run, ROUNDS // len(campaigns)) for campaign in campaigns]:
            done.result()
        streams = [
            [_data(campaign.redis(), stream) for stream in ("violations", "notices")]
            for campaign in campaigns
        ]
    for campaign, terminal, (facts, notices) in zip(campaigns, terminals, streams, strict=True):
        _check_facts(facts)
        _check_log(campaign.folder / "violations.log", facts)
        name = campaign.person.name
        _check_terminal(terminal, campaign, [one for one in notices if one["data"]["person"] == name])
        _check_mails(campaign.mails, notices)


def _data(redis: Redis, stream: str) -> list[dict[str, Any]]:
    entries: Any = redis.xrange("canhazgpu:{chaos}:" + stream)
    return [
        {k.decode(): v.decode() for k, v in fields.items()} | {"data": json.loads(fields[b"data"])}
        for _, fields in entries
    ]


def _check_facts(facts: list[dict[str, Any]]) -> None:
    """A violation is opened once and closed once, and there is one at a time per user and GPU."""
    opened: dict[tuple[object, object], object] = {}
    for fact in facts:
        data = fact["data"]
        assert isinstance(data, dict)
        place = (data["gpu"], data["key"])
        if str(fact["type"]).endswith("opened"):
            assert place not in opened, f"opened twice: {place}"
            opened[place] = data["violation"]
        elif str(fact["type"]).endswith("closed"):
            assert opened.pop(place) == data["violation"]
    assert not opened


def _check_log(log: Path, facts: list[dict[str, Any]]) -> None:
    lines = [json.loads(line)["id"] for line in log.read_text().splitlines()]
    twice = [one for one, count in collections.Counter(lines).items() if count > 1]
    assert not twice, f"logged twice: {twice}"
    assert lines == [fact["id"] for fact in facts], "the log is not the facts in their order"
    assert verify(log).findings.listed == [], "the log's chain is broken"


def _check_terminal(terminal: Terminal, campaign: Campaign, notices: list[dict[str, Any]]) -> None:
    seen = collections.defaultdict(list)
    late = LATE * slowness()
    ends = list(itertools.accumulate(len(chunk) for _, chunk in terminal.chunks))
    for token in re.finditer(rb"\[(\S+?)\]", b"".join(chunk for _, chunk in terminal.chunks)):
        moment, _ = terminal.chunks[bisect.bisect_left(ends, token.end())]
        seen[token[1].decode()].append(moment)
    for data in (notice["data"] for notice in notices):
        moments = seen[str(data["notice"])]
        assert moments, f"{data['kind']} notice {data['notice']} never reached the terminal"
        for first, second in itertools.pairwise(moments):
            # A worker that outlives its daemon may be late itself, as may be what records the terminal.
            kills = [victim for moment, victim in campaign.kills if first - late <= moment <= second]
            last = max((moment for moment, _ in campaign.kills), default=0.0)
            after = f"{first - last:.2f} and {second - last:.2f} s after the last kill"
            assert kills, f"{data['notice']} came twice, {after}"


def _check_mails(folder: Path, notices: list[dict[str, Any]]) -> None:
    ids = collections.defaultdict(set)
    for path in folder.glob("*.eml"):
        mail = email.message_from_bytes(path.read_bytes(), policy=policy.default)
        ids[mail["X-Canhazgpu-Notice"]].add(mail["Message-ID"])
    for data in (notice["data"] for notice in notices):
        assert len(ids[data["notice"]]) == 1, f"{data['notice']}: Message-IDs {ids[data['notice']]}"
