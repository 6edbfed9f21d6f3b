"""Calls from containers: a uid that root's runtime chose proves nobody, one in a user's namespace does."""

import json
import subprocess

import pytest
from support.daemon import COMMAND, PATIENCE, Daemon
from support.people import Person

ROOTFUL = ["unshare", "--pid", "--mount", "--fork", "--mount-proc"]
OWN = ["unshare", "--user", "--map-root-user"]
REFUSED = (
    "Error: your process is in a container, where its uid does not prove who you are"
    " (run canhazgpu on the host)\n"
)


def call(host: Daemon, words: list[str]) -> "subprocess.CompletedProcess[str]":
    """Run a command against the service."""
    return subprocess.run(
        words, env=host.environment, capture_output=True, text=True, check=False, timeout=PATIENCE
    )


def test_a_uid_in_roots_container_changes_nothing(host: Daemon, people: list[Person]) -> None:
    """It can read, but does not release or extend what the user of that uid has, and reserves nothing."""
    alice = people[0]
    assert host.run("reserve", "--duration", "1h", person=alice).returncode == 0
    for words in (["release"], ["extend"], ["reserve"], ["reserve", "--wait", "1m"], ["disown"]):
        done = call(host, [*ROOTFUL, *alice.command(*COMMAND, *words)])
        assert (done.returncode, done.stderr) == (1, REFUSED), words
    read = call(host, [*ROOTFUL, *alice.command(*COMMAND, "status")])
    assert (read.returncode, f"IN USE by {alice.name}" in read.stdout) == (0, True), read


def test_a_uid_in_roots_container_gets_no_token(host: Daemon, people: list[Person]) -> None:
    """The token would prove that a container is the holder's; on the host, the holder gets it."""
    alice = people[0]
    assert host.run("reserve", person=alice).returncode == 0
    words = alice.command(*COMMAND, "env", "--json")
    for before, has in (([], True), (ROOTFUL, False)):
        (held,) = json.loads(call(host, [*before, *words]).stdout)
        assert "CANHAZGPU_RESERVATION" in held["environment"]
        assert ("CANHAZGPU_TOKEN" in held["environment"]) == has


def test_a_users_own_namespace_is_the_users(host: Daemon, people: list[Person]) -> None:
    """As for a rootless container, the kernel knows who created it."""
    alice = people[0]
    body = json.dumps({"kind": "manual", "count": 1, "duration": "1h"})
    curl = [
        "curl",
        "-sS",
        "--unix-socket",
        str(host.folder / "s"),
        "-d",
        body,
        "http://localhost/v1/reservations",
    ]
    done = call(host, alice.command(*OWN, *curl))
    if "unshare failed" in done.stderr:
        pytest.skip("no user namespaces for users here")
    assert json.loads(done.stdout)["reservation"]["user"] == alice.name, done
    assert f"IN USE by {alice.name}" in host.status()
