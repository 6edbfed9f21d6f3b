"""Fixtures for every test: a real Redis of the run's own, a fresh host name per test, real users."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import hypothesis
import pytest
import support.forks
from hypothesis import HealthCheck
from redis import Redis
from redis.exceptions import RedisError
from support.amd import amd_host, amd_library, amd_provider, say_amd
from support.daemon import folder, host, lasting_host
from support.event_history import past
from support.eventually import until
from support.hostile import mailing
from support.machines import machine, shared
from support.nvml import hanging, nvml_host, nvml_library, patient, provider, say
from support.people import people
from support.redis import redis_binary
from support.runs import runs

from canhazgpu.events.redis_client.store import Store

__all__ = [
    "amd_host",
    "amd_library",
    "amd_provider",
    "folder",
    "hanging",
    "host",
    "lasting_host",
    "machine",
    "mailing",
    "nvml_host",
    "nvml_library",
    "past",
    "patient",
    "people",
    "provider",
    "runs",
    "say",
    "say_amd",
    "shared",
]

# What a machine for CI, a job of a scheduler or a unit of systemd may have in its environment.
INHERITED = re.compile(r"CANHAZGPU_|CUDA_|NVIDIA_|ROCR_|HIP_|SLURM_|PBS_|NOTIFY_SOCKET")
for name in [one for one in os.environ if INHERITED.match(one)]:
    del os.environ[name]
if {"http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"} & set(os.environ):
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = "localhost,127.0.0.1"  # The servers of tests are here.
os.umask(0o022)  # The users of a test read what it creates.
support.forks.install()
# A background job of a script ignores it, and so would every command that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # Of nohup. What this process starts is to hear of it.
    signal.signal(signal.SIGHUP, lambda *_: None)
# How long an example takes depends on what else runs on the machine.
hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis.settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest: one that began last would run alone at the end."""
    seconds: Counter[Path] = Counter()
    for item in items:
        if mark := item.get_closest_marker("slow"):
            seconds[item.path] += mark.args[0] if mark.args else 10
    items.sort(key=lambda item: -seconds[item.path])


@pytest.fixture
def anyio_backend() -> str:
    """Run async tests on asyncio, as the service does."""
    return "asyncio"


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A private Redis for the whole run, as durable as the service asks for."""
    folder = Path(tempfile.mkdtemp(prefix="chg-redis-"))
    socket = folder / "redis.sock"
    server = subprocess.Popen(
        [redis_binary(), "--port", "0", "--unixsocket", str(socket), "--dir", str(folder), "--save", ""],
        stdout=subprocess.DEVNULL,
    )

    def answers() -> bool:
        assert server.poll() is None, "redis-server does not start"
        with Redis(unix_socket_path=str(socket)) as client, suppress(RedisError):
            return bool(client.ping())
        return False

    until(answers, 60, "for redis-server")
    yield f"unix://{socket}"
    server.terminate()
    server.wait()
    shutil.rmtree(folder)


@pytest.fixture
async def store(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Store]:
    """The state of a host nobody used before, in the run's Redis, which may be halted for a while."""
    monkeypatch.setattr("canhazgpu.events.redis_client.store.ANSWER_TIMEOUT", 60.0)
    made = Store(redis_url, f"test-{uuid.uuid4().hex[:12]}")
    yield made
    await made.close()
