"""An answer that nobody hears: what was granted goes back, and who asks again has it."""

import json
import signal
import socket
import subprocess
import sys
import uuid
from contextlib import suppress
from typing import Any

import pytest
from support.daemon import Daemon, gpu, until
from support.people import Person

from canhazgpu.client import Client, reserve

KEY = "canhazgpu:{testhost}:reservations"


def ask(host: Daemon, **demand: Any) -> socket.socket:
    """Ask for a GPU by hand; the answer is left unread."""
    link = socket.socket(socket.AF_UNIX)
    link.settimeout(60)
    link.connect(str(host.folder / "s"))
    body = json.dumps({"kind": "manual", "gpus": [0], **demand}).encode()
    head = f"POST /v1/reservations HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    link.sendall(head.encode() + body)
    return link


def held(host: Daemon) -> list[dict[str, Any]]:
    """The live reservations."""
    with host.redis() as redis:
        return [json.loads(text) for text in redis.hvals(KEY)]


def reasons(host: Daemon) -> list[str]:
    """Why reservations were released, in order."""
    with host.redis() as redis:
        rows = redis.xrange("canhazgpu:{testhost}:ledger")
    return [json.loads(fields[b"data"])["reason"] for _, fields in rows]


@pytest.mark.parametrize("wait", [False, True])
@pytest.mark.parametrize("moment", ["at once", "answered"])
def test_who_goes_before_the_answer_leaves_nothing(host: Daemon, moment: str, *, wait: bool) -> None:
    """If a client disconnects before it has read the response, the GPU is free within seconds."""
    with ask(host, wait=wait) as link:
        if moment == "answered":
            until(lambda: link.recv(9, socket.MSG_PEEK))
            until(lambda: held(host))
    with suppress(AssertionError):
        until(lambda: held(host), 2)
    until(lambda: not held(host), 20)
    assert reasons(host) == ["undelivered"] or moment == "at once"
    until(lambda: "GPU 0: AVAILABLE" in host.status())


def test_who_hears_keeps_it(host: Daemon) -> None:
    """A response that was read is delivered, whatever happens to the connection afterwards."""
    with ask(host, wait=False) as link:
        answer = b""
        while b'"granted"' not in answer:
            answer += link.recv(65536)
        link.sendall(b"GET /v1/queue HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: link.recv(9, socket.MSG_PEEK))
    with pytest.raises(AssertionError):
        until(lambda: not held(host), 5)


def test_what_commands_and_programs_get_stays(host: Daemon) -> None:
    """Reservations of commands and programs stay, with and without waiting."""
    host.place(*(gpu(index) for index in range(4)))
    until(lambda: "GPU 3: AVAILABLE" in host.status())
    client = Client(str(host.folder / "s"))
    assert host.run("reserve", "--gpu-ids", "0").returncode == 0
    assert host.run("reserve", "--gpu-ids", "1", "--wait").returncode == 0
    program = (
        "import time\nfrom canhazgpu.client import Client, reserve\n"
        f"with reserve(gpu_ids=[0, 2], client=Client({client.socket!r})): time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program]) as waiting:
        until(lambda: client.get("/v1/queue"))
        client.post("/v1/reservations/release", {"gpus": [0]})
        until(lambda: len(held(host)) == 2)
        with pytest.raises(AssertionError):
            until(lambda: len(held(host)) < 2, 5)
        waiting.kill()


@pytest.mark.parametrize("wait", [False, True])
def test_who_asks_again_has_it(host: Daemon, *, wait: bool) -> None:
    """A client that repeats its operation gets the same reservation, and it stays."""
    assert host.process is not None
    operation = uuid.uuid4().hex
    with ask(host, wait=wait, operation=operation):
        (before,) = until(lambda: held(host))
        host.process.send_signal(signal.SIGSTOP)  # It sees both at once: the end of one, and the next.
    with ask(host, wait=wait, operation=operation) as link:
        host.process.send_signal(signal.SIGCONT)
        answer = b""
        while b'"granted"' not in answer or b"environment" not in answer:
            answer += link.recv(65536)
        assert before["id"].encode() in answer
        with suppress(TimeoutError):  # All of it is read; the service may keep the connection.
            link.settimeout(1)
            while link.recv(65536):
                pass
    with pytest.raises(AssertionError):
        until(lambda: not held(host), 5)


def test_a_process_that_is_killed_while_it_waits_for_the_answer(host: Daemon) -> None:
    """A process that is killed while it waits leaves no reservation."""
    assert host.process is not None
    program = "import socket, sys\nlink = socket.socket(socket.AF_UNIX)\nlink.connect(sys.argv[1])\n"
    program += "link.sendall(sys.argv[2].encode())\nprint(flush=True)\nprint(link.recv(9))\n"
    head = "POST /v1/reservations HTTP/1.1\r\nHost: x\r\nContent-Length: 18\r\n\r\n"
    words = [sys.executable, "-c", program, str(host.folder / "s"), head + '{"kind": "manual"}']
    host.process.send_signal(signal.SIGSTOP)
    try:
        with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
            assert process.stdout
            assert process.stdout.readline() == b"\n"
            process.kill()
    finally:
        host.process.send_signal(signal.SIGCONT)
    with suppress(AssertionError):
        until(lambda: held(host), 2)
    until(lambda: not held(host), 20)


def test_a_block_gives_back_its_own_and_no_other(host: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the reservation of a block ended meanwhile, no other reservation is released."""
    monkeypatch.setenv("CANHAZGPU_CONFIG", host.environment["CANHAZGPU_CONFIG"])
    client = Client(str(host.folder / "s"))
    with reserve(client=client):
        assert host.run("release").returncode == 0
        assert host.run("reserve", "--gpu-ids", "0").returncode == 0
        (other,) = held(host)
    assert [one["id"] for one in held(host)] == [other["id"]]


def test_a_blocks_own_exception_is_what_comes_out(host: Daemon) -> None:
    """The exception of a block is raised even if the release fails, with a note about that."""
    client = Client(str(host.folder / "s"))

    def work() -> None:
        with reserve(client=client):
            host.stop()
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as caught:
        work()
    assert "are still reserved" in caught.value.__notes__[0]


def test_an_id_of_somebody_elses_is_refused(host: Daemon, people: list[Person]) -> None:
    """A reservation can only be ended by its owner, also by its id."""
    host.place(gpu(0), gpu(1))
    assert host.run("reserve", "--gpu-ids", "0", person=people[0]).returncode == 0
    (one,) = held(host)
    program = (
        "import sys\nfrom canhazgpu.client import Client\n"
        "print(Client(sys.argv[1]).post('/v1/reservations/release', {'ids': [sys.argv[2]]}))"
    )
    words = [sys.executable, "-c", program, str(host.folder / "s"), one["id"]]
    refused = subprocess.run(people[1].command(*words), capture_output=True, text=True, check=False)
    assert "nothing was changed" in refused.stderr
    assert held(host) == [one]
    done = subprocess.run(people[0].command(*words), capture_output=True, text=True, check=True)
    assert one["id"] in done.stdout
    assert held(host) == []
