"""An open violation, a silence or a sequence in Redis that nobody can read: it is left out or repaired."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from support.daemon import Daemon, gpu, until, use

PREFIX = "canhazgpu:{testhost}:"
EVE = use(1, 1024, "eve", "python3")
BROKEN = [b"garbage", b"[1]", b"{}", b"\xff", b'{"id":"v","kind":"unreserved","since":"now","body":"{"}']


@pytest.fixture
def accused(host: Daemon) -> Iterator[Daemon]:
    """A host where somebody uses a GPU without right, which an administrator has silenced."""
    host.place(gpu(0, EVE), gpu(1))
    until(lambda: opened(host))
    done = host.run("silence", "add", "--gpu", "0", "--for", "1h", "--reason", "known")
    assert done.returncode == 0, done.stderr
    yield host
    assert "Traceback" not in host.log.read_text()


def opened(host: Daemon) -> list[dict[str, Any]]:
    """Return the open violations."""
    found: list[dict[str, Any]] = json.loads(host.run("violations", "--open", "--json").stdout or "[]")
    return found


def set_all(host: Daemon, name: str, text: bytes) -> None:
    """Overwrite all values of a hash."""
    with host.redis() as redis:
        for field in redis.hkeys(PREFIX + name):
            redis.hset(PREFIX + name, field, text)


def works(host: Daemon) -> None:
    """See that whatever does not need the value goes on, also after a restart."""
    for words in (["status"], ["violations"], ["silence", "list"], ["events"]):
        done = host.run(*words)
        assert done.returncode == 0, (words, done.stderr)
    assert host.run("reserve", "--gpu-ids", "1").returncode == 0
    assert host.run("release", "--gpu-ids", "1").returncode == 0


def test_use_that_goes_on_is_a_new_violation(accused: Daemon) -> None:
    """The one that cannot be read is not followed; once the use ends, so does the new one."""
    for text in BROKEN:
        accused.place(gpu(0, EVE), gpu(1))
        (before,) = until(lambda: opened(accused))
        set_all(accused, "violations:open", text)
        (after,) = until(lambda: opened(accused))
        assert after["violation"] != before["violation"], text
        works(accused)
        accused.place(gpu(0), gpu(1))
        until(lambda: not opened(accused))


@pytest.mark.parametrize("text", BROKEN[:2])
def test_a_violation_is_left_out_from_the_start(accused: Daemon, text: bytes) -> None:
    """Of use that has ended: the log says so once, and the service starts."""
    accused.place(gpu(0), gpu(1))
    until(lambda: not opened(accused))
    with accused.redis() as redis:
        redis.hset(PREFIX + "violations:open", "0/uid:7", text)
    accused.stop()
    accused.log.write_text("")
    accused.start()
    works(accused)
    assert opened(accused) == []
    assert accused.log.read_text().count('"unreadable"') == 1


@pytest.mark.parametrize("text", [*BROKEN[:4], b'{"id":1}'])
def test_a_silence_is_left_out(accused: Daemon, text: bytes) -> None:
    """It silences nothing, is in no list, and the log says so once."""
    (name,) = (one["id"] for one in json.loads(accused.run("silence", "list", "--json").stdout))
    set_all(accused, "silences", text)
    for again in (False, True):
        if again:
            accused.stop()
            accused.log.write_text("")
            accused.start()
        works(accused)
        assert json.loads(accused.run("silence", "list", "--json").stdout) == []
        assert accused.run("silence", "expire", name).returncode == 1
        assert accused.log.read_text().count('"unreadable"') == 1


def test_a_sequence_of_another_type_is_repaired(accused: Daemon) -> None:
    """It is the number of the journal's last event within a scan, and all goes on, also after a restart."""
    key = PREFIX + "sequence"
    with accused.redis() as redis:
        redis.delete(key)
        redis.lpush(key, "x")
        until(lambda: redis.type(key) == b"string")
        assert redis.get(key).isdigit()
    works(accused)
    accused.stop()
    accused.start()
    works(accused)
    assert "redis_data_changed" in accused.log.read_text()
