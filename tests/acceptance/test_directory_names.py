"""A uid is one person: a missing or changed name is updated everywhere."""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.daemon import COMMAND, gpu, until, use
from support.directory import Directory, DirectoryDaemon, DirectoryPerson
from support.people import Person

from canhazgpu.service.identity.user_names import RETRY

ADA = 1505433401
NUMBER = str(ADA)
ASKED_AGAIN = RETRY + 20  # Seconds until the service has heard what a directory says of who was not known.
MORE = """
[limits.users.ada]
max_gpus = 3
[[notices.steps]]
channels = ["log"]
to = ["offender", "holder"]
"""


@pytest.fixture
def host(folder: Path, people: list[Person]) -> Iterator[DirectoryDaemon]:
    """A service whose directory is down; ada is one of its users."""
    del people  # They are there before the host's files are copied.
    daemon = DirectoryDaemon(folder, MORE)
    daemon.directory = Directory(folder, ada=ADA)
    daemon.directory.put("away")
    yield daemon
    daemon.stop()


@pytest.fixture
def ada() -> Iterator[Person]:
    """A user of the directory."""
    person = DirectoryPerson("ada", ADA)
    yield person
    person.remove()


@contextlib.contextmanager
def waiting(host: DirectoryDaemon, ada: Person, *words: str) -> Iterator[None]:
    """Let ada wait in the queue."""
    process = subprocess.Popen(
        ada.command(*COMMAND, *words),
        env=host.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: rows(host, "queue"))
        yield
    finally:
        process.terminate()
        process.wait()


def rows(host: DirectoryDaemon, *words: str) -> Any:
    """Return what a command says as JSON."""
    return json.loads(host.run(*words, "--json").stdout)


def queued(host: DirectoryDaemon) -> list[dict[str, Any]]:
    """Return the requests as Redis has them."""
    return [json.loads(one) for one in host.redis().hvals("canhazgpu:{testhost}:queue")]


def names(host: DirectoryDaemon) -> dict[str, set[str]]:
    """Return the user names in all output, by command."""
    status = rows(host, "status")
    return {
        "reservations": {one["reservation"]["user"] for one in status if one["reservation"]},
        "users": {user for one in status for user in one["users"]},
        "processes": {process["user"] for one in status for process in one["processes"]},
        "queue": {one["user"] for one in rows(host, "queue")},
        "violations": {one["user"] for one in rows(host, "violations", "--open")},
        "holders": {one["holder"] for one in rows(host, "violations", "--open") if one["holder"]},
        "lines": {name for name in ("ada", NUMBER) if name in host.status() + host.run("queue").stdout},
    }


@pytest.mark.slow
def test_who_was_a_number_gets_the_name(host: DirectoryDaemon, ada: Person, people: list[Person]) -> None:
    """She reserves, waits, and uses a GPU while her directory is away: one name before, one name after.

    The reservation, the queue, violations, their holder and what is told follow, and what her name may have.
    """
    bob, _ = people
    hers, his = ada.spawn("sleep", "600"), bob.spawn("sleep", "600")
    gpus = gpu(0, use(hers.pid, 900), use(his.pid, 900)), gpu(1, use(hers.pid, 900)), gpu(2)
    host.place(*gpus)
    host.start()
    assert host.run("reserve", "--gpu-ids", "2").returncode == 0
    until(lambda: len(rows(host, "violations", "--open")) == 3)
    host.place(gpu(0), *gpus[1:])
    until(lambda: "GPU 0: AVAILABLE" in host.status())
    assert host.run("reserve", "--gpu-ids", "0", person=ada).returncode == 0
    host.place(*gpus)
    with waiting(host, ada, "reserve", "--gpu-ids", "2", "--wait"):
        until(lambda: len(rows(host, "violations", "--open")) == 2)
        before = names(host)
        assert before == {
            "reservations": {NUMBER, "root"},
            "users": {NUMBER, bob.name},
            "processes": {NUMBER, bob.name},
            "queue": {NUMBER},
            "violations": {NUMBER, bob.name},
            "holders": {NUMBER},
            "lines": {NUMBER},
        }
        host.directory.take("away")
        until(lambda: "IN USE by ada" in host.status(), ASKED_AGAIN)
        until(lambda: NUMBER not in {name for found in names(host).values() for name in found})
        after = {where: {found.replace(NUMBER, "ada") for found in them} for where, them in before.items()}
        assert names(host) == after
        until(lambda: [(one["user"], one["limit"]) for one in queued(host)] == [("ada", 3)])
        until(lambda: host.redis().hget("canhazgpu:{testhost}:gpu:0", "holder_user") == b"ada")
    renamed = host.run("events", "--type", "reservation.renamed", "--json").stdout
    assert '"formerly":"' + NUMBER in renamed.replace(" ", "")
    until(lambda: any(fact.get("holder") == "ada" for fact in host.facts()))
    for name in ("ada", NUMBER):  # What was recorded under the number is hers too.
        found = rows(host, "violations", "--user", name)
        assert [one["gpu"] for one in found] == [0, 1], found
    host.directory.put("away")
    host.stop()
    host.start()
    until(lambda: "IN USE by ada" in host.status() and "by user ada" in host.status())
    assert NUMBER not in host.status()
    done = host.run("admin", "release", "--user", "ada")
    assert done.returncode == 0, done.stderr
    assert "IN USE by ada" not in host.status()


def test_a_number_is_a_user_for_administrators(host: DirectoryDaemon, ada: Person) -> None:
    """While the directory is down, `admin release --user` accepts the uid."""
    host.place(gpu(0))
    host.start()
    assert host.run("reserve", person=ada).returncode == 0
    assert f"IN USE by {NUMBER}" in host.status()
    done = host.run("admin", "release", "--user", NUMBER)
    assert done.returncode == 0, done.stderr
    assert "AVAILABLE" in host.status()
