"""`status` for programs: the seed document's scripts, run as they stand, and the exact fields of its JSON."""

import json
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from support.daemon import COMMAND, Daemon, gpu, until, use
from support.people import Person

from canhazgpu.service.providers import nvml_errors

BOB = (
    "GPU 2: IN USE WITHOUT RESERVATION by user bob - 1024MB used by"
    " PID 5012345 (python3), PID 5067890 (jupyter)"
)
THREE = (
    "GPU 3: IN USE WITHOUT RESERVATION by users alice, bob and charlie - 2048MB used by"
    " PID 5012345 (python3), PID 5023456 (pytorch) and 2 more"
)
LINES = [
    "GPU 0: AVAILABLE (never reserved) [validated: 45MB used]",
    f"GPU 1: ERROR (GPU is lost: {nvml_errors.remedy('GPU_IS_LOST')})",
    BOB,
    THREE,
]
FIELDS = {
    *("gpu_id", "uuid", "name", "status", "users", "memory_mb", "processes", "reservation"),
    *("violations", "last_released", "scanned_at"),
}
MORE = {
    "vendor",
    "minor",
    "reason",
    "remedy",
    "memory_used_mb",
    "memory_total_mb",
    "utilization_percent",
    "temperature_c",
    "mig",
    "instances",
    "number",
    "parent",
    "profile",
    "released_s",
    "in_use",
    "others",
    "presumed",
    "drained",
    "silenced_s",
    "stale_s",
    "stale_reason",
}  # Beyond the brief's list.
PROCESS = {"pid", "name", "user", "memory_mb", "container"}
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")

# From the seed document, unchanged.
REMINDER = """#!/bin/bash
# unauthorized_reminder.sh
STATUS=$(canhazgpu status)
UNAUTHORIZED=$(echo "$STATUS" | grep "WITHOUT RESERVATION")

if [ -n "$UNAUTHORIZED" ]; then
    echo "Reminder: Please use canhazgpu for GPU reservations"
    echo "$UNAUTHORIZED"
fi
"""
MONITORING = r'''
def check_unauthorized_usage():
    """Check for unauthorized GPU usage and return details"""
    result = subprocess.run(['canhazgpu', 'status'], 
                          capture_output=True, text=True)
    
    unauthorized = []
    for line in result.stdout.split('\n'):
        if 'WITHOUT RESERVATION' in line:
            # Parse user and memory info
            match = re.search(r'by users? ([^-]+) - (\d+)MB', line)
            if match:
                users = match.group(1).strip()
                memory = int(match.group(2))
                unauthorized.append({
                    'users': users,
                    'memory_mb': memory,
                    'raw_line': line
                })
    
    return unauthorized
'''  # noqa: W291, W293 - to the letter
RESPONSE = r"""#!/bin/bash
# unauthorized_response.sh

# Check for unauthorized usage
UNAUTHORIZED=$(canhazgpu status | grep "WITHOUT RESERVATION")

if [ -n "$UNAUTHORIZED" ]; then
    # Log the violation
    echo "$(date): $UNAUTHORIZED" >> /var/log/gpu_violations.log
    
    # Extract and notify users
    echo "$UNAUTHORIZED" | while read -r line; do
        USERS=$(echo "$line" | sed -n 's/.*by users\? \([^-]*\) -.*/\1/p')
        for USER in $USERS; do
            # Send notification to user
            echo "GPU Policy Violation: Please use 'canhazgpu reserve' for GPU access" | \
                mail -s "GPU Usage Policy" "$USER@company.com"
        done
    done
    
    # Alert administrators
    echo "$UNAUTHORIZED" | mail -s "GPU Policy Violations Detected" admin@company.com
fi
"""  # noqa: W293 - to the letter


@pytest.fixture
def busy(host: Daemon) -> Daemon:
    """A host with a GPU free, one lost, one used by bob, one by three people."""
    host.place(
        gpu(0, memory_used_mb=45),
        gpu(1, error="GPU_IS_LOST"),
        gpu(2, use(5012345, 500, "bob", "python3"), use(5067890, 524, "bob", "jupyter")),
        gpu(
            3,
            use(5012345, 512, "alice", "python3"),
            use(5023456, 512, "bob", "pytorch"),
            use(5034567, 512, "charlie", "python3"),
            use(5045678, 512, "charlie", "python3"),
        ),
    )
    until(lambda: THREE in host.status())
    return host


def _with_path(busy: Daemon) -> dict[str, str]:
    """Return an environment whose `canhazgpu` is ours and whose `mail` writes down whom it is for."""
    programs = busy.folder / "bin"
    programs.mkdir()
    (programs / "canhazgpu").write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    (programs / "mail").write_text(f'#!/bin/sh\ncat >/dev/null\necho "$3" >> {busy.folder}/mailed\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    return {**busy.environment, "PATH": f"{programs}:/usr/bin:/bin"}


def test_the_lines_are_the_documents(busy: Daemon) -> None:
    """The lines have the form of the document, for every state."""
    assert busy.status().splitlines() == LINES


@pytest.mark.parametrize("width", ["20", "0", "rubbish"])
def test_no_line_is_ever_wrapped(busy: Daemon, width: str) -> None:
    """Lines are never wrapped, whatever the width of the terminal."""
    narrow = {**busy.environment, "COLUMNS": width}
    done = subprocess.run([*COMMAND, "status"], env=narrow, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == LINES


def test_the_reminder_script_prints_the_lines(busy: Daemon) -> None:
    """The script's grep finds exactly the lines of use without a reservation."""
    done = subprocess.run(
        ["bash", "-c", REMINDER], env=_with_path(busy), capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[1:] == [BOB, THREE]


def test_the_monitoring_function_gives_users_and_memory(busy: Daemon) -> None:
    """The document's own function reads our output."""
    program = f"import json, re, subprocess\n{MONITORING}\nprint(json.dumps(check_unauthorized_usage()))"
    done = subprocess.run(
        [sys.executable, "-c", program], env=_with_path(busy), capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [
        {"users": "bob", "memory_mb": 1024, "raw_line": BOB},
        {"users": "alice, bob and charlie", "memory_mb": 2048, "raw_line": THREE},
    ]


def test_the_response_script_writes_to_each_user(busy: Daemon) -> None:
    """The script's sed finds the user in each line."""
    script = RESPONSE.replace("/var/log/gpu_violations.log", str(busy.folder / "gpu.log"))
    subprocess.run(["bash", "-c", script], env=_with_path(busy), check=True)
    assert (busy.folder / "mailed").read_text().split() == [
        "bob@company.com",
        *("alice,@company.com", "bob@company.com", "and@company.com", "charlie@company.com"),
        "admin@company.com",
    ]
    assert BOB in (busy.folder / "gpu.log").read_text()


def test_the_json_has_exactly_these_fields(busy: Daemon) -> None:
    """The JSON has exactly the documented fields, for every state."""
    gpus: list[dict[str, Any]] = json.loads(busy.run("status", "--json").stdout)
    assert [one["status"] for one in gpus] == ["AVAILABLE", "ERROR", "UNRESERVED", "UNRESERVED"]
    for one in gpus:
        assert set(one) == FIELDS | MORE
        assert all(set(process) == PROCESS | {"evidence", "hint"} for process in one["processes"])
    assert (gpus[1]["reason"], gpus[1]["remedy"]) == ("GPU is lost", nvml_errors.remedy("GPU_IS_LOST"))
    assert gpus[3]["users"] == ["alice", "bob", "charlie"]
    assert [process["pid"] for process in gpus[3]["processes"]] == [5012345, 5023456, 5034567, 5045678]


def test_every_time_in_the_json_is_rfc_3339(busy: Daemon) -> None:
    """Every time in the JSON is RFC 3339 with a zone."""
    with busy.redis() as redis:
        seconds, _ = redis.time()
        redis.hset("canhazgpu:{testhost}:gpu:0", "last_released", (seconds - 7200) * 1000)
    until(lambda: json.loads(busy.run("status", "--json").stdout)[2]["violations"])
    gpus: list[dict[str, Any]] = json.loads(busy.run("status", "--json").stdout)
    times = [gpus[0]["last_released"], *(one["scanned_at"] for one in gpus)]
    times += [violation["since"] for one in gpus for violation in one["violations"]]
    for time in times:
        assert RFC3339.fullmatch(time), time
        assert datetime.fromisoformat(time).tzinfo is not None
    age = datetime.fromisoformat(times[1]) - datetime.fromisoformat(times[0])
    assert 7190 < age.total_seconds() < 7230


def test_everybody_may_look(busy: Daemon, people: list[Person]) -> None:
    """An ordinary user's `status` is the same as root's."""
    if not Path(sys.executable).resolve().stat().st_mode & 0o001 or not _reachable(people[0]):
        pytest.skip("this interpreter is not for everybody")
    done = subprocess.run(
        [*COMMAND, "status"],
        env=busy.environment,
        capture_output=True,
        text=True,
        check=False,
        user=people[0].uid,
        group=people[0].gid,
        extra_groups=[],
        cwd="/",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == LINES


def _reachable(person: Person) -> bool:
    try:
        subprocess.run(
            [sys.executable, "-c", "import canhazgpu.cli.main"],
            user=person.uid,
            group=person.gid,
            extra_groups=[],
            cwd="/",
            check=True,
            capture_output=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return False
    return True
