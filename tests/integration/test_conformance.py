"""The conformance kit, with consumers that conform and such that do not, on a real Redis."""

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from redis import Redis
from support.daemon import COMMAND, PATIENCE

from canhazgpu.events.conformance.kit import Kit
from canhazgpu.events.conformance.samples import events
from canhazgpu.events.envelope import TYPES
from canhazgpu.events.schemas import data_of

ECHO = Path(__file__).parents[2] / "docs" / "examples" / "echo.py"
BARE = """
import json, os, redis, sys
stream, group = os.environ["CONFORMANCE_STREAM"], os.environ["CONFORMANCE_GROUP"]
client = redis.Redis.from_url(os.environ["CONFORMANCE_REDIS"], protocol=2)
try:
    client.xgroup_create(stream, group, id="0")
except redis.ResponseError:
    pass
while True:
    reply = client.xreadgroup(group, "reader", {stream: ">"}, count=10, block=1000)
    for entry, fields in reply[0][1] if reply else []:
        event = {name.decode(): value.decode() for name, value in fields.items()}
        event |= {"stream_id": entry.decode(), "data": json.loads(event["data"])}
        %s
        print(json.dumps(event), flush=True)
        client.xack(stream, group, entry)
"""


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a developer does."""
    command = [*COMMAND, "events", "conformance", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)


def test_there_is_a_sample_of_every_type() -> None:
    """Each has the type's data, in its order, and a field of a later version."""
    found = events("//h/canhazgpu")
    assert tuple(event.type for event in found) == TYPES
    for event in found:
        msgspec.convert(event.data, data_of(event.type))
        assert "later_version" in event.data


CONFORMS = """\
ok      events of every type
ok      after a kill
ok      entries that were removed
The consumer conforms.
"""


def test_the_library_conforms(redis_url: str) -> None:
    """It echoes every event, also after a kill, and reports a gap; the Redis is left as it was."""
    with Redis.from_url(redis_url, protocol=2) as client:
        before = client.keys("canhazgpu:{conformance-*")
        done = run("--redis", redis_url, "--", sys.executable, str(ECHO))
        assert client.keys("canhazgpu:{conformance-*") == before
    assert (done.stdout, done.returncode) == (CONFORMS, 0), done.stderr


def test_without_a_redis_it_starts_one(tmp_path: Path) -> None:
    """A server of its own, which is gone afterwards, with its folder."""
    program = tmp_path / "consumer"
    program.write_text(
        f'#!/bin/sh\necho "$CONFORMANCE_REDIS" > {tmp_path}/url\nexec {sys.executable} {ECHO}\n'
    )
    program.chmod(0o755)
    done = run("--json", "--", str(program))
    assert done.returncode == 0, done.stderr
    names = ["events of every type", "after a kill", "entries that were removed"]
    checks = [{"check": name, "differences": []} for name in names]
    assert json.loads(done.stdout) == {"conforms": True, "checks": checks}
    socket = Path((tmp_path / "url").read_text().strip().removeprefix("unix://"))
    assert not socket.parent.exists()


def test_a_consumer_that_ends_is_told_at_once(redis_url: str) -> None:
    """It is not waited for; each check has its lines, and the exit code is 1."""
    done = run("--redis", redis_url, "--timeout", "1000h", "--", "sh", "-c", "exit 7")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    count = len(TYPES)
    assert lines[:3] == [
        "failed  events of every type",
        "        it exited with status 7, not every entry is acknowledged (XACK)",
        f"        it prints none of the {count} events as a line of JSON with its stream_id",
    ]
    assert lines[-1] == "The consumer does not conform."
    found = json.loads(run("--redis", redis_url, "--json", "--", "false").stdout)
    assert (found["conforms"], all(one["differences"] for one in found["checks"])) == (False, True)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("event['data'].pop('later_version')", "gpu.changed (1795600000001-1) has another data"),
        ("event['type'] = 'x'", "gpu.changed (1795600000001-1) has another type"),
        ("event['stream_id'] = '1795600000001-1'", "it does not print canhazgpu.gpu.failed"),
    ],
)
def test_an_event_that_is_changed_is_named(redis_url: str, fault: str, said: str) -> None:
    """The entry and what is different about it are named."""
    with Kit(redis_url, [sys.executable, "-c", BARE % fault]) as kit:
        found = list(kit.every_type())
    assert any(said in line for line in found), found


def test_an_entry_that_is_not_acknowledged_is_told(redis_url: str) -> None:
    """A consumer that leaves one out is not waited for longer than it may take."""
    with Kit(redis_url, [sys.executable, "-c", BARE % "if entry.endswith(b'-7'): continue"], 3) as kit:
        assert "not every entry is acknowledged" in "".join(kit.every_type())


def test_entries_that_a_killed_consumer_leaves_are_told(redis_url: str) -> None:
    """A consumer that reads only new entries does not conform."""
    with Kit(redis_url, [sys.executable, "-c", BARE % "pass"], 3) as kit:
        assert "entries that it had read stay pending" in "".join(kit.after_a_kill())


def test_a_gap_that_is_not_noticed_is_told(redis_url: str) -> None:
    """A consumer that goes on without a word does not conform."""
    with Kit(redis_url, [sys.executable, "-c", BARE % "pass"]) as kit:
        assert list(kit.every_type()) == []
        assert "it reports the gaps []" in "".join(kit.gap())


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--redis", "unix:///nonexistent/redis.sock", "--", "true"), 3, "Redis does not answer"),
        (("--redis", "http://localhost", "--", "true"), 2, "--redis: "),
        (("--", "no-such-consumer"), 2, "the command no-such-consumer was not found"),
        (("--timeout", "soon", "--", "true"), 2, "--timeout: "),
        ((), 2, "Missing argument"),
    ],
)
def test_mistakes_are_one_line(words: tuple[str, ...], code: int, said: str) -> None:
    """With an exit code, and without a traceback."""
    done = run(*words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1), done.stderr
    assert done.stderr.startswith("Error: ")
    assert said in done.stderr


def test_the_options_of_events_stand_elsewhere() -> None:
    """They mean nothing before this command."""
    done = subprocess.run(
        [*COMMAND, "events", "--json", "conformance", "--", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (2, "Error: put the options after the command\n")
