"""Users of a directory, with very large uids, are notified like all others."""

import contextlib
import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path
from threading import Thread

import pytest
from support.control_groups import ROOTS, control_group
from support.daemon import gpu, until, use
from support.directory import Directory, DirectoryDaemon, DirectoryPerson
from support.hostile import MAIL
from support.people import Person, Terminal

from canhazgpu.cli.demo.mail_sink import MailSink

# As Entra, SSSD and AD number users. Terminals of the same uid would get the notices of other test runs.
ADA, SAM, NAMELESS = (first + secrets.randbelow(9999) for first in (1505433401, 200001, 3197663))
SUBORDINATE = 300000


@pytest.fixture
def users() -> Iterator[list[Person]]:
    """Two users of a directory, and one that it does not know."""
    made = [DirectoryPerson("ada", ADA), DirectoryPerson("sam", SAM), DirectoryPerson("", NAMELESS)]
    yield list(made)
    for person in made:
        person.remove()


@pytest.fixture
def mail(folder: Path) -> Iterator[MailSink]:
    """A mail server."""
    (folder / "mail").mkdir()
    with MailSink(folder / "mail") as sink:
        Thread(target=sink.serve_forever, daemon=True).start()
        yield sink
        sink.shutdown()


@pytest.fixture
def host(folder: Path, mail: MailSink, users: list[Person]) -> Iterator[DirectoryDaemon]:
    """A service with terminals and mail."""
    daemon = DirectoryDaemon(folder, MAIL.format(port=mail.server_address[1]))
    daemon.directory = Directory(folder, **{one.name: one.uid for one in users if one.name})
    daemon.place(*map(gpu, range(6)))
    yield daemon.start()
    daemon.stop()


@contextlib.contextmanager
def by_namespace(person: Person) -> Iterator[int]:
    """A process with a subordinate uid in a user's own namespace, as in rootless containers."""
    maker = person.spawn("unshare", "--user", "sleep", "600")
    until(lambda: Path(f"/proc/{maker.pid}/comm").read_text().strip() == "sleep")
    for kind in ("uid", "gid"):
        Path(f"/proc/{maker.pid}/{kind}_map").write_text(f"0 {person.uid} 1\n1 {SUBORDINATE} 10")
    words = ["nsenter", f"--user=/proc/{maker.pid}/ns/user", "--setuid", "1", "--setgid", "1", "sleep", "600"]
    with ended(subprocess.Popen(words)) as pid:
        until(lambda: Path(f"/proc/{pid}").stat().st_uid == SUBORDINATE)
        yield pid


@contextlib.contextmanager
def by_slice(person: Person) -> Iterator[int]:
    """A process of root in a user's session."""
    with (
        control_group(f"user.slice/user-{person.uid}.slice/session-{os.getpid()}.scope") as scope,
        ended(subprocess.Popen(["sleep", "600"])) as pid,
    ):
        (scope / "cgroup.procs").write_text(str(pid))
        yield pid


@contextlib.contextmanager
def by_login(person: Person) -> Iterator[int]:
    """A process of root that was started by a user who had logged in."""
    script = f"echo {person.uid} > /proc/self/loginuid; exec sleep 600"
    with ended(subprocess.Popen(["sh", "-c", script])) as pid:
        until(lambda: Path(f"/proc/{pid}/comm").read_text().strip() == "sleep")
        yield pid


@contextlib.contextmanager
def ended(process: "subprocess.Popen[bytes]") -> Iterator[int]:
    """End a process."""
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def mailed(mail: MailSink) -> set[str]:
    """Return the recipients of mails."""
    found = (message_from_bytes(one.read_bytes()) for one in mail.folder.glob("*.eml"))
    return {one["To"] for one in found}


def test_users_of_a_directory_are_told(host: DirectoryDaemon, mail: MailSink, users: list[Person]) -> None:
    """Directory users are notified by terminal and mail for every kind of evidence; unknown uids are not."""
    if not ROOTS:
        pytest.skip("this host has no cgroups of its own")
    ada, sam, nameless = users
    with contextlib.ExitStack() as ending:
        terminals = [Terminal(person) for person in users]
        for terminal in terminals:
            ending.callback(terminal.close)
        hers = [terminals[0].leader.pid]
        hers += [ending.enter_context(way(ada)) for way in (by_namespace, by_slice, by_login)]
        pids = [*hers, terminals[1].leader.pid, terminals[2].leader.pid]
        host.place(*(gpu(index, use(pid, 1024)) for index, pid in enumerate(pids)))
        until(lambda: all(f"GPU {index}" in terminals[0].text for index in range(4)))
        until(lambda: "GPU 4" in terminals[1].text)
        until(lambda: {"ada@example.com", "sam@example.com", "admins@example.com"} <= mailed(mail))
        found = json.loads(host.run("violations", "--open", "--json").stdout)
        proof = {one["gpu"]: (one["person"], one["uid"], one["evidence"]) for one in found}
        assert proof == {
            **{gpu: ("ada", ADA, way) for gpu, way in enumerate(("uid", "subuid", "slice", "loginuid"))},
            4: ("sam", SAM, "uid"),
            5: (None, nameless.uid, "unknown"),
        }
        assert mailed(mail) == {"ada@example.com", "sam@example.com", "admins@example.com"}
        assert "GPU" not in terminals[2].text
        assert sam.name not in terminals[0].text
