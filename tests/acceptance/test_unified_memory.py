"""A GPU that shares the host's memory, from the driver's library to the line that people read."""

import json
import re
import subprocess

import pytest
from support.daemon import COMMAND, Daemon, until
from support.nvml import Say

GB10 = "gpu GPU-aaaa NVIDIA-GB10 0 0 0\nmemory 3\nbar1 3\nbusy 0\n"
SEEN = "[validated: no processes, memory not reported]"


@pytest.fixture
def spark(nvml_host: Daemon, say: Say) -> Daemon:
    """A service on a DGX Spark."""
    say(GB10)
    nvml_host.start()
    until(lambda: SEEN in nvml_host.status())
    return nvml_host


def test_an_idle_one_is_available_and_says_by_what(spark: Daemon, say: Say) -> None:
    """A GPU without its own memory is available if no process uses it, and says that none is reported."""
    assert spark.status() == f"GPU 0: AVAILABLE (never reserved) {SEEN}\n"
    (row,) = json.loads(spark.run("status", "--json").stdout)
    assert (row["status"], row["memory_used_mb"]) == ("AVAILABLE", None)
    with subprocess.Popen(["sleep", "600"]) as user:
        say(f"{GB10}proc c {user.pid} 1\n")
        until(lambda: f"- 1MB used by PID {user.pid} (sleep)" in spark.status())
        user.kill()
    say(GB10)
    until(lambda: SEEN in spark.status())


def test_it_can_be_reserved_and_released(spark: Daemon) -> None:
    """It can be reserved and released like any other GPU."""
    assert spark.run("reserve", "--duration", "1h").returncode == 0
    assert "[validated: no actual usage detected]" in spark.status()
    assert spark.run("release").returncode == 0
    until(lambda: "AVAILABLE (last released" in spark.status())


def test_a_run_on_it_ends(spark: Daemon, say: Say) -> None:
    """A run on it ends when its processes have ended."""
    words = [*COMMAND, "run", "--", "sh", "-c", "echo $$; exec sleep 600"]
    with subprocess.Popen(words, env=spark.environment, stdout=subprocess.PIPE) as run:
        assert run.stdout
        pid = int(run.stdout.readline())
        say(f"{GB10}proc c {pid} 64\n")
        until(lambda: "[validated: 64MB, 1 processes]" in spark.status())
        run.kill()
    say(GB10)
    free = rf"GPU 0: AVAILABLE \(last released 0h \dm \d+s ago\) {re.escape(SEEN)}\n"
    until(lambda: re.fullmatch(free, spark.status()))
