"""`status` to the letter: its lines, the scripts that people run on them, and its JSON."""

import json
import os
import pty
import re
import subprocess
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from support.daemon import COMMAND, Daemon, gpu, serving, until, use

from canhazgpu.service.providers import nvml_errors

H100 = "NVIDIA H100 80GB HBM3"
BOB = (use(5012345, 500, "bob", "python3"), use(5067890, 524, "bob", "jupyter"))
THREE = (
    use(5012345, 512, "alice", "python3"),
    use(5023456, 512, "bob", "pytorch"),
    use(5034567, 512, "charlie", "python3"),
    use(5045678, 512, "charlie", "python3"),
)
LINE_BOB = (
    "GPU 2: IN USE WITHOUT RESERVATION by user bob - 1024MB used by"
    " PID 5012345 (python3), PID 5067890 (jupyter)"
)
LINE_THREE = (
    "GPU 3: IN USE WITHOUT RESERVATION by users alice, bob and charlie - 2048MB used by"
    " PID 5012345 (python3), PID 5023456 (pytorch) and 2 more"
)
NOTIFY = r"""
STATUS=$(canhazgpu status)
UNAUTHORIZED=$(echo "$STATUS" | grep "WITHOUT RESERVATION")

if [ -n "$UNAUTHORIZED" ]; then
    # Extract usernames and send notifications
    USERS=$(echo "$UNAUTHORIZED" | sed -n 's/.*by users\? \([^-]*\) -.*/\1/p')
    for USER in $USERS; do
        echo "Please use canhazgpu for GPU reservations" | wall -n "$USER"
    done
fi
"""
FIELDS = [
    "gpu_id",
    "uuid",
    "name",
    "status",
    "users",
    "memory_mb",
    "processes",
    "reservation",
    "violations",
    "last_released",
    "scanned_at",
]


def busied(host: Daemon) -> Daemon:
    """Put a GPU in each state."""
    host.place(
        gpu(0, name=H100, memory_used_mb=45),
        gpu(1, use(5055555, 101, "alice", "python3"), name=H100),
        gpu(2, *BOB, name=H100),
        gpu(3, *THREE, name=H100),
        gpu(4, name=H100, error="GPU_IS_LOST"),
        gpu(5, name=H100, memory_used_mb=300),
    )
    until(lambda: LINE_THREE in host.status())
    return host


@pytest.fixture(scope="module")
def busy() -> Iterator[Daemon]:
    """A host with a GPU in each state, for all tests that leave it as it was."""
    with serving(1) as daemon:
        yield busied(daemon)


def test_every_line_is_to_the_letter(busy: Daemon) -> None:
    """There is one line per GPU, exactly as scripts expect it."""
    assert busy.status().splitlines() == [
        "GPU 0: AVAILABLE (never reserved) [validated: 45MB used]",
        "GPU 1: IN USE WITHOUT RESERVATION by user alice - 101MB used by PID 5055555 (python3)",
        LINE_BOB,
        LINE_THREE,
        f"GPU 4: ERROR (GPU is lost: {nvml_errors.remedy('GPU_IS_LOST')})",
        "GPU 5: IN USE WITHOUT RESERVATION by user unknown - 300MB used by unknown process",
    ]


def test_the_last_release_is_told(host: Daemon) -> None:
    """The line of a released GPU says how long ago that was."""
    busy = busied(host)
    with busy.redis() as redis:
        seconds, _ = redis.time()
        redis.hset("canhazgpu:{testhost}:gpu:0", "last_released", (seconds - 7200) * 1000)
    assert re.fullmatch(
        r"GPU 0: AVAILABLE \(last released 2h 0m \d+s ago\) \[validated: 45MB used\]",
        busy.status().splitlines()[0],
    )


def test_a_driver_that_hangs_makes_gpus_unknown(host: Daemon) -> None:
    """While the driver hangs, GPUs are UNKNOWN with the reason and the time, never available."""
    busy = busied(host)
    busy.place(gpu(0, name=H100, hang="1h"))
    lines = until(lambda: "no scan for" in busy.status() and busy.status(), 40)
    line = r"GPU \d: UNKNOWN \(no answer from the driver in 2 s, no scan for 0h 0m \d+s: look at .*\)"
    assert all(re.fullmatch(line, one) for one in lines.splitlines())


def test_the_notification_script_finds_the_users(busy: Daemon) -> None:
    """The grep and sed of the example scripts find the users."""
    path = busy.folder / "bin"
    path.mkdir()
    told = busy.folder / "told"
    (path / "wall").write_text(f'#!/bin/sh\ncat >/dev/null\necho "$2" >> {told}\n')
    (path / "canhazgpu").write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    for program in path.iterdir():
        program.chmod(0o755)
    environment = {**busy.environment, "PATH": f"{path}:/usr/bin:/bin"}
    subprocess.run(["bash", "-c", NOTIFY], check=True, env=environment)
    assert told.read_text().split() == [
        "alice",
        "bob",
        *["alice,", "bob", "and", "charlie"],
        "unknown",
    ]


def test_on_a_terminal_only_colour_is_added(busy: Daemon) -> None:
    """On a terminal, only colours are added to the lines."""
    master, slave = pty.openpty()
    subprocess.run([*COMMAND, "status"], env=busy.environment, stdout=slave, check=True)
    shown = b""
    while not shown.endswith(b"unknown process\r\n"):
        shown += os.read(master, 65536)
    text = shown.decode()
    assert "\x1b[31mGPU 2:\x1b[0m" in text
    assert re.sub(r"\x1b\[\d+m", "", text).replace("\r\n", "\n") == busy.status()


def test_the_json_has_the_documented_fields(busy: Daemon) -> None:
    """The JSON is an array with one object per GPU and RFC 3339 times."""
    gpus: list[dict[str, Any]] = json.loads(busy.run("status", "--json").stdout)
    assert all(set(FIELDS) <= set(one) for one in gpus)
    assert [one["status"] for one in gpus] == [
        "AVAILABLE",
        *["UNRESERVED"] * 3,
        "ERROR",
        "UNRESERVED",
    ]
    assert gpus[2]["users"] == ["bob"]
    assert gpus[2]["memory_mb"] == 1024
    process = {key: gpus[2]["processes"][0][key] for key in ("pid", "name", "user", "memory_mb", "container")}
    assert process == {"pid": 5012345, "name": "python3", "user": "bob", "memory_mb": 500, "container": None}
    assert gpus[2]["reservation"] is None
    assert gpus[0]["name"] == H100
    assert gpus[0]["last_released"] is None
    assert datetime.fromisoformat(gpus[0]["scanned_at"]).tzinfo is not None
    opened = until(lambda: json.loads(busy.run("status", "--json").stdout)[2]["violations"])
    assert opened[0]["user"] == "bob"


@pytest.mark.parametrize("why", ["ECC errors", "used by users x - ask root"])
def test_a_drained_gpu_in_use_says_so_at_the_end(host: Daemon, why: str) -> None:
    """A drained GPU in use says so at the end of its line, and scripts find the same users."""
    host.place(gpu(0), gpu(2, *BOB))
    until(lambda: LINE_BOB in host.status())
    assert host.run("admin", "drain", "2", "--reason", why).returncode == 0
    (shown,) = [text for text in host.status().splitlines() if text.startswith("GPU 2")]
    assert shown.startswith(f"{LINE_BOB} (draining: ")
    users = re.sub(r".*by users? ([^-]*) -.*", r"\1", shown)
    assert users == "bob"
    row = json.loads(host.run("status", "--json").stdout)[1]
    assert (row["status"], row["drained"]) == ("UNRESERVED", why)


def test_watching_goes_on_over_a_restart(host: Daemon) -> None:
    """`status --watch` waits for a service that restarts, and continues."""
    with subprocess.Popen(
        [*COMMAND, "status", "--watch"], env=host.environment, stdout=subprocess.PIPE, text=True
    ) as watching:
        assert watching.stdout
        first = watching.stdout.readline()
        host.stop()
        seen = [watching.stdout.readline() for _ in range(2)]
        host.start()
        while not (last := watching.stdout.readline()).startswith("GPU 0"):
            assert last.startswith(("The service does not answer", "\n", "GPU 0")), last
        assert first.startswith("GPU 0: AVAILABLE")
        assert "The service does not answer" in "".join(seen)
        watching.terminate()
