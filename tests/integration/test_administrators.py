"""Administrators: real users, groups and namespaces, as reported by the kernel."""

import grp
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.daemon import COMMAND, PATIENCE, Daemon, until
from support.people import Person

# The interpreter may lie where only root can read; the right to read is all that is kept.
KEEP = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
ASK = [*COMMAND, "deadletters", "list"]


def _as(person: Person, *groups: int) -> list[str]:
    listed = f"--groups={','.join(map(str, groups))}" if groups else "--clear-groups"
    return ["setpriv", f"--reuid={person.uid}", f"--regid={person.gid}", listed, *KEEP]


def _ask(daemon: Daemon, *wrapper: str) -> int:
    return subprocess.run(
        [*wrapper, *ASK], env=daemon.environment, capture_output=True, check=False, cwd="/"
    ).returncode


def test_the_group_does_not_count_in_a_container(folder: Path, people: list[Person]) -> None:
    """Root in a container is no administrator, even with the group's gid."""
    if subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine has no mount namespaces for us")
    member, admins = people
    daemon = Daemon(folder)
    config = folder / "config.toml"
    config.write_text(f'admin_group = "{grp.getgrgid(admins.gid).gr_name}"\n' + config.read_text())
    daemon.start()
    try:
        assert _ask(daemon, *_as(member, admins.gid)) == 0
        assert _ask(daemon, "unshare", "--mount", *_as(member, admins.gid)) == 1
        assert _ask(daemon, *_as(member)) == 1
    finally:
        assert daemon.stop() == 0


@contextmanager
def _service_of(owner: Person, folder: Path, more: str = "") -> Iterator[Daemon]:
    """A service without root."""
    daemon = Daemon(folder, more)
    os.chown(folder, owner.uid, owner.gid)
    with daemon.log.open("wb") as log:
        process = subprocess.Popen(
            [*_as(owner), sys.executable, "-m", "canhazgpu.cli.main", "serve"],
            env=daemon.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
        )
    try:
        until(lambda: daemon.run("status").returncode == 0, 60, "for a service without root")
        yield daemon
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 0


def test_who_runs_a_service_of_their_own_is_its_administrator(folder: Path, people: list[Person]) -> None:
    """Without root, the service's own user is an administrator, and another user is not."""
    owner, other = people
    with _service_of(owner, folder) as daemon:
        assert _ask(daemon, *_as(owner)) == 0
        assert _ask(daemon, *_as(other)) == 1


def test_a_limit_that_cannot_be_enforced_refuses_nobody(folder: Path, people: list[Person]) -> None:
    """Without root, runs of others continue beyond limits.max_duration; the log and `doctor` say so."""
    owner, other = people
    with _service_of(owner, folder, '[limits]\nmax_duration = "1h"\n') as daemon:
        assert daemon.run("run", "--", "true", person=other).returncode == 0
        until(lambda: "AVAILABLE" in daemon.status())
        refused = daemon.run("run", "--timeout", "1m", "--", "true", person=other)
        assert (refused.returncode, refused.stderr.count("\n")) == (125, 1)
        assert "is not allowed to end your processes" in refused.stderr
        assert "other users' runs are not ended at limits.max_duration" in daemon.log.read_text()
        assert "limits.max_duration cannot end runs of users" in daemon.run("doctor").stdout
