"""The conformance kit, with consumers that conform and such that do not, on a real Redis."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

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


def run(url: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run the kit as a developer does."""
    words = [sys.executable, "-m", "canhazgpu.events.conformance", url, *command]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_there_is_a_sample_of_every_type() -> None:
    """Each has the type's data, in its order, and a field of a later version."""
    found = events("//h/canhazgpu")
    assert tuple(event.type for event in found) == TYPES
    for event in found:
        msgspec.convert(event.data, data_of(event.type))
        assert "later_version" in event.data


def test_the_library_conforms(redis_url: str) -> None:
    """It echoes every event, also after a kill, and reports a gap."""
    done = run(redis_url, sys.executable, str(ECHO))
    assert (done.stdout, done.returncode) == (
        "the consumer conforms: every type, after a kill, and with a gap\n",
        0,
    )


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
        assert "after a kill, entries that it had read stay pending" in "".join(kit.after_a_kill())


def test_a_gap_that_is_not_noticed_is_told(redis_url: str) -> None:
    """A consumer that goes on without a word does not conform."""
    with Kit(redis_url, [sys.executable, "-c", BARE % "pass"]) as kit:
        assert list(kit.every_type()) == []
        assert "it reports the gaps []" in "".join(kit.gap())


def test_without_redis_it_says_so_on_one_line() -> None:
    """The exit code is 1, without a traceback."""
    done = run("unix:///nonexistent/redis.sock", "true")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert run("unix:///nowhere").stderr.startswith("usage: ")
