"""Many callers at once: each GPU is granted once, and the other callers are refused with true numbers."""

import http.client
import json
import re
import socket
import subprocess
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.daemon import COMMAND, Daemon, gpu, until
from support.people import Person

pytestmark = [pytest.mark.alone, pytest.mark.timeout(900)]
GPUS = 64
REFUSED = re.compile(
    r"Error: Not enough GPUs available\. Requested: 1, Available: 0"
    r" \(64 GPUs reserved - run 'canhazgpu status' for details\)\n"
)


@pytest.fixture
def crowded(folder: Path) -> Iterator[Daemon]:
    """A host with 64 idle GPUs."""
    daemon = Daemon(folder)
    daemon.place(*(gpu(index, memory_used_mb=45) for index in range(GPUS)))
    daemon.start()
    until(lambda: daemon.status().count("AVAILABLE") == GPUS)
    yield daemon
    daemon.stop()


def post(daemon: Daemon, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Send one request over a connection of its own."""
    connection = http.client.HTTPConnection("localhost", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.sock.settimeout(60)
    connection.sock.connect(str(daemon.folder / "s"))
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def holders(daemon: Daemon) -> list[list[int]]:
    """The GPUs of each reservation, as Redis has them."""
    with daemon.redis() as redis:
        return [json.loads(text)["gpus"] for text in redis.hvals("canhazgpu:{testhost}:reservations")]


def test_two_hundred_commands_for_sixty_four_gpus(crowded: Daemon, people: list[Person]) -> None:
    """Of 200 commands, half of them root's, 64 succeed with a GPU each; 136 are refused with true numbers."""
    words = [*COMMAND, "reserve", "--gpus", "1", "--short"]
    processes = [
        subprocess.Popen(
            people[0].command(*words) if number % 2 else words,
            env=crowded.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(200)
    ]
    done = [(*process.communicate(), process.returncode) for process in processes]
    assert Counter(code for _, _, code in done) == {0: 64, 1: 136}, Counter(error for _, error, _ in done)
    assert sorted(int(out) for out, _, code in done if code == 0) == list(range(GPUS))
    said = Counter(error for _, error, code in done if code == 1)
    assert all(map(REFUSED.fullmatch, said)), said
    assert all(error == "" for _, error, code in done if code == 0)
    assert sorted(index for gpus in holders(crowded) for index in gpus) == list(range(GPUS))


def test_two_thousand_requests(crowded: Daemon) -> None:
    """Of 2000 requests to the API, 64 are granted and 1936 are refused; none fails."""
    with ThreadPoolExecutor(50) as crowd:
        done = list(
            crowd.map(
                lambda _: post(crowded, "/v1/reservations", {"kind": "manual", "wait": False}), range(2000)
            )
        )
    assert Counter(status for status, _ in done) == {201: GPUS, 409: 2000 - GPUS}
    assert sorted(answer["reservation"]["gpus"][0] for status, answer in done if status == 201) == list(
        range(GPUS)
    )
    refused = [answer for status, answer in done if status == 409]
    assert {json.dumps(answer["counts"], sort_keys=True) for answer in refused} == {
        json.dumps({"available": 0, "held": GPUS}, sort_keys=True)
    }


def test_an_operation_repeated_at_once_is_one_reservation(crowded: Daemon) -> None:
    """Requests with the same operation at the same time get the same reservation."""
    body = {"kind": "manual", "count": 2, "wait": False, "operation": uuid.uuid4().hex}
    with ThreadPoolExecutor(20) as crowd:
        done = list(crowd.map(lambda _: post(crowded, "/v1/reservations", body), range(40)))
    assert {status for status, _ in done} == {201}
    assert len({answer["reservation"]["id"] for _, answer in done}) == 1
    assert len(holders(crowded)) == 1


def test_requests_and_releases_at_once_grant_no_gpu_twice(crowded: Daemon) -> None:
    """While requests of all sizes and releases alternate, no GPU ever has two holders."""

    def act(turn: int) -> None:
        if turn % 9 == 0:
            counts = Counter(index for gpus in holders(crowded) for index in gpus)
            assert set(counts.values()) <= {1}
        elif turn % 5 == 0:
            post(crowded, "/v1/reservations/release", {})
        else:
            body = {"kind": "manual", "count": turn % 7 + 1, "wait": False}
            assert post(crowded, "/v1/reservations", body)[0] in (201, 409)

    with ThreadPoolExecutor(25) as crowd:
        assert len(list(crowd.map(act, range(600)))) == 600
