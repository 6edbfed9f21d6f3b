"""What a second user of the host may not do: everything is refused, and is in the log."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from support.daemon import COMMAND, Daemon, gpu, until
from support.people import Person

# Perl: the interpreter of these tests may lie where only root can read.
CONNECT = (
    'socket($s, AF_UNIX, SOCK_STREAM, 0); print connect($s, sockaddr_un($ARGV[0])) ? "connected\\n" : "$!\\n"'
)
RAW = """
import json, socket, sys
link = socket.socket(socket.AF_UNIX)
link.connect(sys.argv[1])
body = sys.argv[4].encode()
head = f"{sys.argv[2]} {sys.argv[3]} HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n"
link.sendall(f"{head}Content-Length: {len(body)}\\r\\n\\r\\n".encode() + body)
answer = b""
while part := link.recv(65536):
    answer += part
print(answer.decode().split(" ")[1])
"""


@pytest.fixture
def shared(host: Daemon, people: list[Person]) -> Daemon:
    """Alice holds GPU 0 by hand, and waits for GPU 0 and 1; bob is the second user."""
    host.place(gpu(0), gpu(1))
    until(lambda: "GPU 1: AVAILABLE" in host.status())
    assert host.run("reserve", "--gpu-ids", "0", "--duration", "4h", person=people[0]).returncode == 0
    return host


def asks(host: Daemon, person: Person, method: str, path: str, body: Any) -> int:
    """Send a request as this person; return its status."""
    words = [sys.executable, "-c", RAW, str(host.folder / "s"), method, path, json.dumps(body)]
    return int(subprocess.run(person.command(*words), capture_output=True, text=True, check=True).stdout)


def refusals(host: Daemon, person: Person) -> list[dict[str, Any]]:
    """What the service's log says was refused to this person."""
    lines = [json.loads(line) for line in host.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == "refused" and line["uid"] == person.uid]


NOT_THEIRS = [
    ("release", "--gpu-ids", "0"),
    ("extend", "--gpu-ids", "0"),
    ("admin", "release", "--gpu-ids", "0"),
    ("admin", "release", "--all"),
    ("admin", "drain", "1"),
    ("admin", "undrain", "1"),
    ("admin", "init", "--gpus", "1", "--force"),
    ("reserve", "--gpu-ids", "0"),
    ("reserve", "--user", "{alice}"),
    ("reserve", "--user", "root"),
    ("reserve", "--user", " Root "),
]


def test_what_is_not_theirs(shared: Daemon, people: list[Person]) -> None:
    """A user cannot release, extend, administer, or use the label of somebody else."""
    alice, bob = people
    events = "canhazgpu:{testhost}:events"
    for number, words in enumerate(NOT_THEIRS, 1):
        with shared.redis() as redis:
            before = redis.xlen(events)
            done = shared.run(*(word.format(alice=alice.name) for word in words), person=bob)
            assert (done.returncode, redis.xlen(events)) == (1, before), (words, done.stderr)
        assert done.stderr.count("\n") == 1, words
        assert len(refusals(shared, bob)) == number, words
        assert f"GPU 0: IN USE by {alice.name} for" in shared.status()


def test_all_of_ones_own_is_nothing_of_others(shared: Daemon, people: list[Person]) -> None:
    """`release --all` and `extend` without numbers affect only the caller's reservations."""
    alice, bob = people
    assert shared.run("release", "--all", person=bob).stdout.startswith("Nothing to release")
    assert shared.run("extend", person=bob).returncode == 1
    assert f"GPU 0: IN USE by {alice.name} for" in shared.status()


FORGED: list[dict[str, Any]] = [
    {"pid": 1},
    {"uid": 0},
    {"user": "root"},
    {"start": 1},
    {"admin": True},
    {"limit": 99},
    {"id": "r1"},
]


def test_a_forged_identity(shared: Daemon, people: list[Person]) -> None:
    """A body that names a user or a process is refused."""
    bob = people[1]
    for number, forged in enumerate(FORGED, 1):
        body = {"kind": "run", "count": 1, "wait": False, **forged}
        assert asks(shared, bob, "POST", "/v1/reservations", body) == 400, forged
        assert len(refusals(shared, bob)) == number, forged
        assert "GPU 1: AVAILABLE" in shared.status()


def test_a_run_is_of_the_process_that_asks(shared: Daemon, people: list[Person]) -> None:
    """A run is bound to the process that connected."""
    bob = people[1]
    assert asks(shared, bob, "POST", "/v1/reservations", {"kind": "run", "wait": False}) == 201
    until(lambda: "GPU 1: AVAILABLE" in shared.status())


def test_anothers_place_in_the_queue(shared: Daemon, people: list[Person]) -> None:
    """A user cannot take over or end another user's request by its id."""
    alice, bob = people
    with subprocess.Popen(
        alice.command(*COMMAND, "reserve", "--gpus", "2", "--wait"),
        env=shared.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as waiting:
        (row,) = until(lambda: json.loads(shared.run("queue", "--json").stdout))
        assert asks(shared, bob, "DELETE", f"/v1/queue/{row['id']}", {}) == 403
        taken = {"kind": "manual", "count": 1, "wait": False, "request": row["id"]}
        assert asks(shared, bob, "POST", "/v1/reservations", taken) == 409
        assert len(refusals(shared, bob)) == 2
        assert [one["id"] for one in json.loads(shared.run("queue", "--json").stdout)] == [row["id"]]
        assert asks(shared, alice, "DELETE", f"/v1/queue/{row['id']}", {}) == 200
        assert waiting.wait(60) == 1


def test_an_operation_is_its_users_own(shared: Daemon, people: list[Person]) -> None:
    """The operation id of another user does not return their reservation."""
    alice, bob = people
    body = {"kind": "manual", "count": 1, "wait": False, "operation": "the-same-name"}
    assert asks(shared, alice, "POST", "/v1/reservations", body) == 201
    assert asks(shared, bob, "POST", "/v1/reservations", body) == 409


def test_redis_is_the_services_alone(shared: Daemon, people: list[Person]) -> None:
    """Other users cannot connect to the socket of the service's Redis."""
    socket = shared.folder / "state" / "redis" / "redis.sock"
    assert socket.exists()
    assert (socket.parent.stat().st_mode & 0o777) == 0o700
    assert socket.parent.stat().st_uid == os.getuid()
    program = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    bob, log = people[1], shared.log.read_text()
    refused = subprocess.run(
        [
            "setpriv",
            f"--reuid={bob.uid}",
            f"--regid={bob.gid}",
            "--clear-groups",
            "perl",
            "-MSocket",
            "-e",
            CONNECT,
            str(socket),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.stdout == "Permission denied\n", refused.stderr
    subprocess.run([sys.executable, "-c", program, str(socket)], check=True)  # It is there, and listens.
    assert "redis" not in shared.log.read_text().removeprefix(log)


def test_the_doctor_of_a_user_says_what_the_service_says(host: Daemon, people: list[Person]) -> None:
    """For a user, `doctor` reports about Redis what the service says."""
    rows = json.loads(host.run("doctor", "--json", person=people[0]).stdout)
    found = [(row["state"], row["found"]) for row in rows if row["check"] == "redis"]
    assert [state for state, _ in found] == ["ok", "ok"], found
    assert found[1][1] == "persistence and eviction are configured correctly"
    assert host.stop() == 0
    rows = json.loads(host.run("doctor", "--json", person=people[0]).stdout)
    assert "fail" in [row["state"] for row in rows if row["check"] == "service"]
