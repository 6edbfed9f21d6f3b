"""A service without root where /proc hides processes, with real mounts, users and namespaces."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.daemon import COMMAND, Daemon, until
from support.people import Person

from canhazgpu.service.identity.hidepid import hides_others

MOUNT = 'mount -t proc -o "$0" proc /proc && exec "$@"'
# The interpreter may lie where only root can read; the right to read is all that is kept.
READ, TRACE = "+dac_read_search", "+sys_ptrace"
MODES = ["hidepid=1", "hidepid=2", "hidepid=4"]


def hidden(options: str, person: Person, *program: str, keep: str = READ, group: int = 0) -> list[str]:
    """Return a command line that runs a program as a user, with /proc mounted with these options."""
    words = ["unshare", "--mount", "sh", "-c", MOUNT, options, "setpriv"]
    words += [f"--reuid={person.uid}", f"--regid={person.gid}"]
    words += [f"--groups={group}" if group else "--clear-groups"]
    return [*words, f"--inh-caps={keep}", f"--ambient-caps={keep}", *program]


def mountable(options: str) -> None:
    """Skip if this machine cannot mount /proc with these options."""
    words = ["unshare", "--mount", "sh", "-c", MOUNT, options, "true"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"/proc cannot be mounted with {options}: {done.stderr.strip()}")


@contextmanager
def service(folder: Path, options: str, owner: Person, keep: str = READ, group: int = 0) -> Iterator[Daemon]:
    """A service of a user with such a /proc."""
    mountable(options)
    daemon = Daemon(folder)
    os.chown(folder, owner.uid, owner.gid)
    words = hidden(
        options, owner, sys.executable, "-m", "canhazgpu.cli.main", "serve", keep=keep, group=group
    )
    with daemon.log.open("wb") as log:
        process = subprocess.Popen(
            words, env=daemon.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/"
        )
    try:
        until(lambda: daemon.run("status").returncode == 0, 20, daemon.log.read_text())
        yield daemon
    finally:
        process.terminate()
        assert process.wait(60) == 0


def warnings(daemon: Daemon) -> list[dict[str, Any]]:
    """Return what the service logged at its start about hidden processes."""
    lines = [json.loads(line) for line in daemon.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == "limited" and "hidepid" in line["reason"]]


def doctor(daemon: Daemon) -> tuple[str, str]:
    """Return doctor's finding about processes, with the remedy."""
    rows = json.loads(daemon.run("doctor", "--json").stdout)
    (row,) = [row for row in rows if row["check"] == "processes"]
    return row["state"], f"{row['found']} {row['remedy']}"


@pytest.mark.parametrize("options", MODES)
def test_a_run_that_cannot_be_followed_is_refused_with_the_reason(
    folder: Path, people: list[Person], options: str
) -> None:
    """`run` of another user is refused with a remedy, the log and doctor say it, and the rest works."""
    owner, other = people
    with service(folder, options, owner) as daemon:
        refused = daemon.run("run", "--", "true", person=other)
        assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (125, "", 1)
        for words in ("hidepid", "run the service as root", "CAP_SYS_PTRACE", "use `canhazgpu reserve`"):
            assert words in refused.stderr, refused.stderr
        assert "has ended" not in refused.stderr
        assert daemon.run("reserve", person=other).returncode == 0
        assert daemon.run("release", person=other).returncode == 0
        assert daemon.run("run", "--", "true", person=owner).returncode == 0
        (said,) = warnings(daemon)
        assert "CAP_SYS_PTRACE" in said["remedy"]
        state, words = doctor(daemon)
        assert state == "fail"
        assert "hidepid" in words
        assert "CAP_SYS_PTRACE" in words


@pytest.mark.parametrize("way", ["group", "capability", "not mounted so"])
def test_a_service_that_sees_them_takes_runs_and_says_nothing(
    folder: Path, people: list[Person], way: str
) -> None:
    """Nothing is reported to the group of the mount, with CAP_SYS_PTRACE, or without the option."""
    owner, other = people
    options = {"group": f"hidepid=2,gid={other.gid}", "capability": "hidepid=2", "not mounted so": "rw"}[way]
    keep = f"{READ},{TRACE}" if way == "capability" else READ
    with service(folder, options, owner, keep, other.gid if way == "group" else 0) as daemon:
        done = daemon.run("run", "--", "true", person=other)
        assert done.returncode == 0, done.stderr
        assert warnings(daemon) == []
        assert doctor(daemon)[0] == "ok"


def test_an_administrator_whose_process_is_hidden_is_one(folder: Path, people: list[Person]) -> None:
    """Callers keep their groups although their namespaces cannot be read."""
    owner, admin = people
    config = folder / "config.toml"
    mountable("hidepid=2")
    with service(folder, "hidepid=2", owner) as daemon:
        assert daemon.run("admin", "drain", "0", person=admin).returncode == 1
    config.write_text(f'admin_group = "{admin.name}"\n' + config.read_text())
    words = hidden("hidepid=2", owner, *COMMAND, "serve")
    with daemon.log.open("wb") as log:
        process = subprocess.Popen(words, env=daemon.environment, stdout=log, stderr=log, cwd="/")
    try:
        until(lambda: daemon.run("status").returncode == 0, 20)
        done = daemon.run("admin", "drain", "0", person=admin)
        assert done.returncode == 0, done.stderr
    finally:
        process.terminate()
        assert process.wait(60) == 0


def test_a_process_that_has_ended_has_ended(host: Daemon) -> None:
    """If the connecting process is gone, the error says that, and does not mention /proc."""
    body = json.dumps({"kind": "run", "gpus": [0]})
    head = f"POST /v1/reservations HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}"
    link = socket.socket(socket.AF_UNIX)
    child = os.fork()
    if child == 0:  # pragma: no cover - it is another process
        try:
            link.connect(str(host.folder / "s"))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    with link:
        link.settimeout(60)
        link.sendall(f"{head}\r\n\r\n{body}".encode())
        answer = b""
        while part := link.recv(65536):
            answer += part
    assert b"your process has ended" in answer
    assert b"hidepid" not in answer


@pytest.mark.slow(40)
@pytest.mark.timeout(900)
def test_what_the_mount_says_is_true(people: list[Person]) -> None:
    """Processes count as hidden exactly if another user's /proc/PID/stat cannot be read."""
    owner, other = people
    process = other.spawn("sleep", "3600")
    script = (
        "import sys\nfrom canhazgpu.service.identity.hidepid import hides_others\n"
        "try: seen = bool(open(f'/proc/{sys.argv[1]}/stat').read())\n"
        "except OSError: seen = False\n"
        "assert hides_others() is not seen, (hides_others(), seen)\n"
    )
    tried = 0
    for mode in ("rw", "hidepid=0", *MODES):
        for gid in ("", f",gid={other.gid}"):
            if subprocess.run(
                ["unshare", "--mount", "sh", "-c", MOUNT, mode + gid, "true"],
                capture_output=True,
                check=False,
            ).returncode:
                continue
            for keep in (READ, f"{READ},{TRACE}"):
                for group in (0, other.gid):
                    words = hidden(
                        mode + gid,
                        owner,
                        sys.executable,
                        "-c",
                        script,
                        str(process.pid),
                        keep=keep,
                        group=group,
                    )
                    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd="/")
                    assert done.returncode == 0, (mode, gid, keep, group, done.stderr)
                    tried += 1
    if not tried:
        pytest.skip("/proc cannot be mounted here")
    assert hides_others(process.pid) is False
    process.kill()
