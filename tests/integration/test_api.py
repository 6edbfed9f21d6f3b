"""The API over the real socket: permissions, and errors while Redis does not answer."""

import contextlib
import grp
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.daemon import COMMAND, PATIENCE, Daemon, gpu, until, use
from support.people import Person
from support.redis import redis_binary

from canhazgpu.client import Client, Refused

CALL = """
import json, sys
from canhazgpu.client import Client, Refused
method, path, body = sys.argv[1:]
try:
    client = Client()
    found = client.get(path) if method == "GET" else client.post(path, json.loads(body))
    print(json.dumps([200, found]))
except Refused as no:
    print(json.dumps([no.status, no.kind]))
"""
CROWD = """
import socket, sys
held = [socket.socket(socket.AF_UNIX) for _ in range(200)]
for one in held:
    one.connect(sys.argv[1])
print("ready", flush=True)
sys.stdin.read()
"""
# The interpreter may lie where only root can read; the right to read is all that is kept.
BECOME = ["--clear-groups", "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]


def as_person(person: Person, *program: str) -> list[str]:
    """Return a command line that runs a program as this user."""
    return ["setpriv", f"--reuid={person.uid}", f"--regid={person.gid}", *BECOME, *program]


def command(host: Daemon, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run a program that talks to the service."""
    return subprocess.run(
        words, env=host.environment, capture_output=True, text=True, check=False, timeout=PATIENCE, cwd="/"
    )


def call(host: Daemon, person: Person, path: str, body: dict[str, Any] | None = None) -> Any:
    """Call the API as this user; return the status, and the response or the type of the error."""
    method = "GET" if body is None else "POST"
    done = command(host, *as_person(person, sys.executable, "-c", CALL, method, path, json.dumps(body or {})))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def client(host: Daemon) -> Client:
    """A client of this service, as root."""
    return Client(str(host.folder / "s"))


def refusal(host: Daemon, path: str, body: dict[str, Any] | None = None) -> Refused:
    """Return the error of the service."""
    with pytest.raises(Refused) as no:
        client(host).get(path) if body is None else client(host).post(path, body)
    return no.value


def raw(host: Daemon, request: bytes) -> bytes:
    """Send bytes; return the response until the service closes the connection."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(str(host.folder / "s"))
        connection.sendall(request)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := connection.recv(65536):
                answer += chunk
        return answer


def post(body: bytes, path: bytes = b"/v1/notices/test") -> bytes:
    """Return a request with this body."""
    head = b"POST %s HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    return head % (path, len(body)) + body


@pytest.fixture
def redis(folder: Path) -> "Iterator[subprocess.Popen[bytes]]":
    """A Redis on the socket `r` that a test may stop."""
    path = folder / "r"
    words = ["--port", "0", "--unixsocket", str(path), "--save", ""]
    with subprocess.Popen([redis_binary(), *words], stdout=subprocess.DEVNULL, cwd=folder) as server:
        until(path.is_socket)
        yield server
        server.kill()


def test_another_user_sees_status_and_violations(host: Daemon, people: list[Person]) -> None:
    """Another user gets the same responses as root, by API and by command."""
    with people[0].spawn("sleep", "60") as process, contextlib.ExitStack() as end:
        end.callback(process.kill)
        host.place(gpu(0, use(process.pid, 1024)), gpu(1))
        until(lambda: client(host).status()[0]["status"] == "UNRESERVED", what="for the use to be seen")
        until(lambda: client(host).get("/v1/violations?open=1"))
        code, gpus = call(host, people[1], "/v1/status")
        assert code == 200
        assert [one["status"] for one in gpus] == ["UNRESERVED", "AVAILABLE"]
        assert gpus[0]["users"] == [people[0].name]
        shown = command(host, *as_person(people[1], *COMMAND, "status"))
        assert (shown.returncode, shown.stderr) == (0, "")
        assert people[0].name in shown.stdout
        for path in ("/v1/health", "/v1/violations", "/v1/deliveries"):
            assert call(host, people[1], path)[0] == 200


def test_what_is_for_administrators_is_refused_to_others(host: Daemon, people: list[Person]) -> None:
    """Dead letters, replays and tests to others are refused for users, and nothing is done."""
    me, you = people
    for path, body in (
        ("/v1/deadletters", None),
        ("/v1/deadletters/1-1/replay", {}),
        ("/v1/notices/test", {"channel": "log"}),
        ("/v1/notices/test", {"channel": "wall", "to": you.name}),
        ("/v1/notices/test", {"channel": "wall", "to": "root"}),
        ("/v1/notices/test", {"channel": "wall", "to": str(you.uid)}),
    ):
        assert call(host, me, path, body) == [403, "not-an-administrator"], (path, body)
    assert client(host).get("/v1/deliveries") == []
    assert client(host).get("/v1/deadletters") == []
    assert call(host, me, "/v1/notices/test", {"channel": "wall"})[0] == 200
    assert call(host, me, "/v1/notices/test", {"channel": "wall", "to": me.name})[0] == 200
    refused = command(host, *as_person(me, *COMMAND, "deadletters", "list"))
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert refused.stderr.startswith("Error: only administrators can do this (ask root")
    assert refused.stderr.count("\n") == 1


def test_a_member_of_the_group_of_administrators_may(folder: Path, people: list[Person]) -> None:
    """Membership in a group is decided by the kernel; other users are refused."""
    member, other = people
    daemon = Daemon(folder)
    config = folder / "config.toml"
    config.write_text(f'admin_group = "{grp.getgrgid(member.gid).gr_name}"\n' + config.read_text())
    daemon.start()
    try:
        assert call(daemon, member, "/v1/deadletters") == [200, []]
        assert call(daemon, other, "/v1/deadletters")[0] == 403
        with_group = ["setpriv", f"--reuid={other.uid}", f"--regid={other.gid}", f"--groups={member.gid}"]
        words = [*with_group, *BECOME[1:], *COMMAND, "deadletters", "list"]
        assert command(daemon, *words).returncode == 0
    finally:
        daemon.stop()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be root in a container")
def test_root_of_a_container_is_no_administrator(host: Daemon) -> None:
    """Root in another mount namespace has the rights of a user."""
    if subprocess.run(["unshare", "--mount", "true"], check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("no other mount namespace here")
    assert command(host, *COMMAND, "deadletters", "list").returncode == 0
    assert command(host, "unshare", "--mount", *COMMAND, "status").returncode == 0
    refused = command(host, "unshare", "--mount", *COMMAND, "deadletters", "list")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)


def test_one_user_with_many_connections_locks_nobody_out(host: Daemon, people: list[Person]) -> None:
    """A hundred connections of one user do not delay others."""
    words = as_person(people[0], sys.executable, "-c", CROWD, str(host.folder / "s"))
    with subprocess.Popen(
        words, env=host.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/"
    ) as crowd:
        assert crowd.stdout
        assert crowd.stdin
        assert crowd.stdout.readline() == b"ready\n"
        assert host.run("status").returncode == 0
        assert call(host, people[1], "/v1/status")[0] == 200
        crowd.stdin.close()


def test_many_requests_at_once_are_all_answered(host: Daemon) -> None:
    """Sixty simultaneous callers are served, although there are fewer connections to Redis."""

    def ask(_: int) -> int:
        return len(client(host).get("/v1/status"))

    with ThreadPoolExecutor(60) as pool:
        assert list(pool.map(ask, range(300))) == [1] * 300


def test_nonsense_is_refused_as_a_problem(host: Daemon) -> None:
    """Unknown paths, methods and values get a status, a type and a sentence, and the service continues."""
    for path, status in (
        ("/v1/nothing", 404),
        ("/", 404),
        ("/v1/violations?since=soon", 400),
        ("/v1/violations?since=-1d", 400),
        ("/v1/deliveries?since=5", 400),
        ("/v1/events?after=yesterday", 400),
        ("/v1/notices/test", 405),
    ):
        assert refusal(host, path).status == status, path
    assert refusal(host, "/v1/status", {}).status == 405
    assert refusal(host, "/v1/deadletters/1-1/replay", {}).kind == "no-such-deadletter"
    assert refusal(host, "/v1/deadletters/%1b%5b31m/replay", {}).detail.isprintable()
    assert refusal(host, "/v1/notices/test", {"channel": "sms"}).status == 400
    assert refusal(host, "/v1/notices/test", {"channel": "wall", "to": 5}).status == 400
    assert refusal(host, "/v1/notices/test", {"channel": ["wall"]}).status == 400
    assert refusal(host, "/v1/notices/test", {"channel": "email"}).kind == "channel-off"
    assert host.run("status").returncode == 0


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (post(b"{"), b"400"),
        (post(b"\xff\xfe"), b"400"),
        (post(b"[]"), b"400"),
        (post(b"null"), b"400"),
        (post(b"[" * 60_000), b"400"),
        (post(b'{"a":' * 10_000), b"400"),
        (post(b'{"channel": "' + b"x" * 70_000 + b'"}'), b"413"),
        (b"\x00\xff\x1b garbage\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /" + b"x" * 100_000, b"400"),
    ],
)
def test_bytes_that_are_no_request_are_refused(lasting_host: Daemon, request_: bytes, status: bytes) -> None:
    """Invalid HTTP is refused with a 4xx, and the service continues."""
    answer = raw(lasting_host, request_)
    assert answer.startswith(b"HTTP/1.1 " + status), answer[:200]
    assert lasting_host.run("status").returncode == 0
    assert "Traceback" not in lasting_host.log.read_text()


def test_a_refusal_repeats_the_path_that_was_asked_for(host: Daemon) -> None:
    """A refusal names the requested path, not that of the socket, also for HTTP 1.0 without a Host header."""
    answer = raw(host, b"GET /nothing HTTP/1.0\r\n\r\n")
    assert b"GET /nothing: Not Found" in answer
    assert str(host.folder).encode() not in answer


def test_without_redis_what_only_it_has_is_answered_with_503(
    folder: Path, redis: "subprocess.Popen[bytes]"
) -> None:
    """Without Redis, requests for its data get 503, and the command ends with 1 and one line."""
    daemon = Daemon(folder, f'[redis]\nurl = "unix://{folder}/r"\n').start()
    try:
        redis.kill()
        redis.wait()
        for path in (
            "/v1/health",
            "/v1/violations",
            "/v1/deliveries",
            "/v1/deadletters",
            "/v1/events",
            "/v1/events?after=0-0",
        ):
            no = refusal(daemon, path)
            assert (no.status, no.kind) == (503, "store-unavailable"), path
            assert "Redis does not answer" in no.detail
            assert no.remedy
        assert refusal(daemon, "/v1/notices/test", {"channel": "log"}).status == 503
        for words in (
            ["violations"],
            ["deliveries"],
            ["events"],
            ["notify", "test", "--channel", "log"],
        ):
            done = daemon.run(*words)
            assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), (words, done.stderr)
            assert done.stderr.startswith(
                f"Error: Redis does not answer: nothing is listening on {folder}/r ("
            )
    finally:
        assert daemon.stop() == 0


def test_without_the_service_a_command_ends_with_3(folder: Path) -> None:
    """Without a service, one line names the socket and how to start the service."""
    daemon = Daemon(folder)
    for dead in (False, True):
        if dead:
            with socket.socket(socket.AF_UNIX) as left:
                left.bind(str(folder / "s"))
        for words in (["status"], ["status", "--json"], ["violations"], ["deadletters", "list"], ["events"]):
            done = daemon.run(*words)
            assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1), words
            assert str(folder / "s") in done.stderr
            assert "canhazgpu serve" in done.stderr
