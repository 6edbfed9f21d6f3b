"""Root after `sudo` and the user who logged in are one: for use that lingers, and for runs within others."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.daemon import COMMAND, Daemon, gpu, until, use
from support.people import Person

CHG = " ".join(COMMAND)
SHOW = "echo $CUDA_VISIBLE_DEVICES"


@pytest.fixture
def three(host: Daemon) -> Daemon:
    """A host with three idle GPUs."""
    host.place(gpu(0), gpu(1), gpu(2))
    until(lambda: "GPU 2: AVAILABLE" in host.status())
    return host


def said(host: Daemon, words: list[str]) -> str:
    """Return what a command prints; it must not fail."""
    done = subprocess.run(
        words, env=host.environment, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done
    return done.stdout


@contextmanager
def using(host: Daemon, person: Person) -> Iterator[None]:
    """Let a process of this person, which no run started, be on GPU 0."""
    process = person.spawn("sleep", "600")
    host.place(gpu(0, use(process.pid, 900)), gpu(1), gpu(2))
    yield
    host.place(gpu(0), gpu(1), gpu(2))
    process.kill()
    process.wait()


def test_a_run_under_sudo_lingers_while_the_person_uses_its_gpu(three: Daemon, people: list[Person]) -> None:
    """When its command has ended, the person's own process keeps the GPU, and another person's does not."""
    alice, bob = people
    words = alice.sudo(*COMMAND, "run", "--gpu-ids", "0", "--", "cat")
    kept = "lingering) [validated: 900MB, 1 processes]"
    for person, wanted in ((alice, kept), (bob, "WITHOUT RESERVATION")):
        run = subprocess.Popen(words, env=three.environment, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        until(lambda: "GPU 0: IN USE by root for" in three.status())
        with using(three, person):
            until(lambda: "900MB" in three.status())
            run.communicate(timeout=60)
            until(lambda text=wanted: text in three.status())  # type: ignore[misc]
            if person is bob:
                until(three.facts)
        until(lambda: three.status().count("AVAILABLE") == 3)
    assert {one["person"] for one in three.facts()} == {bob.name}


def test_a_run_uses_what_the_same_login_holds(three: Daemon, people: list[Person]) -> None:
    """What alice reserved with sudo is hers, with and without sudo; bob's sudo does not get at it."""
    alice, bob = people
    said(three, alice.sudo(*COMMAND, "reserve", "--gpu-ids", "1"))
    run = [*COMMAND, "run", "--", "sh", "-c", SHOW]
    assert said(three, alice.sudo(*run)) == "1\n"
    assert said(three, alice.command(*run)) == "1\n"
    assert said(three, bob.sudo(*run)) != "1\n"
    for words, gpus in ((alice.sudo, [1]), (alice.command, [1]), (bob.sudo, [])):
        held = json.loads(said(three, words(*COMMAND, "env", "--json"))) if gpus else []
        assert [index for one in held for index in one["gpus"]] == gpus


def test_a_run_never_waits_for_a_run_of_another_user_around_it(three: Daemon, people: list[Person]) -> None:
    """As another user within a run (`sudo -u`), what only its end would free is refused at once."""
    inner = " ".join(people[1].command(*COMMAND, "run", "--gpus", "3", "--wait", "--", "true"))
    words = [*COMMAND, "run", "--", "sh", "-c", f"env -u CANHAZGPU_RESERVATION {inner}; echo $?"]
    done = subprocess.run(
        words, env=three.environment, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.stdout == "125\n", done
    assert "wait for itself" in done.stderr


def refused(host: Daemon, words: list[str]) -> str:
    """Return what a command that fails says on stderr."""
    done = subprocess.run(
        words, env=host.environment, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 1, done
    return done.stderr


def reservation_of(host: Daemon, index: int) -> dict[str, Any]:
    """Return the reservation of a GPU."""
    row: dict[str, Any] = json.loads(said(host, [*COMMAND, "status", "--json"]))[index]["reservation"]
    return row


def test_what_others_hold_under_sudo_is_not_released_or_extended(three: Daemon, people: list[Person]) -> None:
    """Bob's `sudo canhazgpu release` ends what bob reserved with sudo; alice ends hers, also without sudo."""
    alice, bob = people
    said(three, alice.sudo(*COMMAND, "reserve", "--gpu-ids", "0", "--duration", "30m"))
    said(three, bob.sudo(*COMMAND, "reserve", "--gpu-ids", "1", "--duration", "30m"))
    before = reservation_of(three, 0)
    for verb in (["release", "0"], ["extend", "0", "1h"], ["disown", "0"]):
        assert "GPU 0 is reserved by root in another login (sudo)" in refused(
            three, bob.sudo(*COMMAND, *verb)
        )
    assert "[1]" in said(three, bob.sudo(*COMMAND, "extend", "1h"))
    after = reservation_of(three, 0)
    assert [after[name] for name in ("id", "expires")] == [before[name] for name in ("id", "expires")]
    assert said(three, bob.sudo(*COMMAND, "release")).startswith("Released 1 GPU(s): [1]")
    assert "[0]" in said(three, alice.command(*COMMAND, "extend", "0", "1h"))
    assert said(three, alice.command(*COMMAND, "release")).startswith("Released 1 GPU(s): [0]")
    said(three, alice.sudo(*COMMAND, "reserve", "--gpu-ids", "0"))
    said(three, [*COMMAND, "admin", "release", "--user", "root"])
    assert three.status().count("AVAILABLE") == 3


def test_what_others_wait_for_under_sudo_is_not_cancelled(three: Daemon, people: list[Person]) -> None:
    """Bob's `sudo canhazgpu cancel` leaves the request of alice's sudo alone; she cancels it."""
    alice, bob = people
    said(three, bob.sudo(*COMMAND, "reserve", "--gpus", "3"))
    words = alice.sudo(*COMMAND, "reserve", "--gpus", "1", "--wait")
    waiting = subprocess.Popen(words, env=three.environment, stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: "root" in said(three, [*COMMAND, "queue"]))
        said(three, bob.sudo(*COMMAND, "cancel"))
        assert "root" in said(three, [*COMMAND, "queue"])
        said(three, alice.command(*COMMAND, "cancel"))
        assert waiting.wait(60) == 1
    finally:
        waiting.kill()
        waiting.communicate()


def test_a_service_account_has_one_set_of_reservations(three: Daemon, people: list[Person]) -> None:
    """What a service's user reserved in one login (`sudo -u ci`) is its own in every login."""
    alice, bob = people
    ci = ["setpriv", "--reuid=33", "--regid=33", "--clear-groups"]
    keep = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    said(three, alice.sudo(*ci, *keep, *COMMAND, "reserve", "--gpu-ids", "2"))
    run = [*ci, *keep, *COMMAND, "run", "--", "sh", "-c", SHOW]
    assert said(three, bob.sudo(*run)) == "2\n"
    assert "[2]" in said(three, bob.sudo(*ci, *keep, *COMMAND, "release"))
