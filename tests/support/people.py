"""Real people for tests: users made with useradd, their terminals, their processes."""

import contextlib
import os
import pty
import pwd
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.eventually import until

LOGGED_IN = """
import os, sys
with open("/proc/self/loginuid", "w") as file:
    file.write(sys.argv[1])
os.execvp(sys.argv[2], sys.argv[2:])
"""
UIDS = range(30_000, 40_000)  # No test has one of these in its text.
TAKEN = 4  # The exit status of useradd then.


def _add(name: str) -> None:
    """Add a user whose uid was not somebody else's a moment ago: services remember for a while who has it."""
    while True:
        words = ["useradd", "--no-create-home", "--uid", str(secrets.choice(UIDS)), name]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode != TAKEN:
            assert done.returncode == 0, done.stderr
            return


class Person:
    """A user of this host, gone with all their processes when the test ends."""

    name: str
    uid: int
    gid: int
    _spawned: "list[subprocess.Popen[bytes]]"

    def __init__(self) -> None:
        """Make the user; needs root."""
        self.name = f"chg{uuid.uuid4().hex[:8]}"
        _add(self.name)
        entry = pwd.getpwnam(self.name)
        self.uid, self.gid = entry.pw_uid, entry.pw_gid
        self._spawned = []

    def spawn(self, *program: str, stdin: int = subprocess.DEVNULL) -> "subprocess.Popen[bytes]":
        """Start `program` as this person; with a terminal as `stdin` it becomes its terminal."""
        wrapped = program if stdin == subprocess.DEVNULL else ("setsid", "--ctty", *program)
        process = subprocess.Popen(
            wrapped,
            stdin=stdin,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=self.uid,
            group=self.gid,
            extra_groups=[],
            cwd="/",
        )
        self._spawned.append(process)
        return process

    def words(self, *program: str) -> list[str]:
        """Return the words that run `program` as this person; what it reads may lie where they may not."""
        keep = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        return [
            "setpriv",
            f"--reuid={self.uid}",
            f"--regid={self.gid}",
            "--clear-groups",
            *keep,
            *program,
        ]

    def sudo(self, *program: str) -> list[str]:
        """Return the words that run `program` as root in this person's login."""
        return [sys.executable, "-c", LOGGED_IN, str(self.uid), *program]

    def become(self, uid: int) -> None:
        """Give them another uid, as a directory would."""
        subprocess.run(["usermod", "--uid", str(uid), self.name], check=True)
        self.uid = uid

    def move(self, home: str) -> None:
        """Give them another home; nothing is made there."""
        subprocess.run(["usermod", "--home", home, self.name], check=True)

    def leave(self) -> None:
        """End everything of theirs and remove the user."""
        subprocess.run(["pkill", "-KILL", "-u", str(self.uid)], check=False)
        for process in self._spawned:
            process.wait()
        subprocess.run(["userdel", "--force", self.name], check=False, stderr=subprocess.DEVNULL)


class Terminal:
    """A pseudo-terminal that belongs to a person and shows what was written to it, and when."""

    def __init__(self, person: Person, mode: int = 0o620) -> None:
        """Open it and start a process of the person in it."""
        self.master, slave = pty.openpty()
        self.path = os.ttyname(slave)
        os.fchown(slave, person.uid, -1)
        os.fchmod(slave, mode)
        self.leader = person.spawn("sleep", "3600", stdin=slave)
        os.close(slave)
        until(self._is_theirs)
        self.chunks: list[tuple[float, bytes]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _is_theirs(self) -> bool:
        """Tell whether the process has the terminal as its controlling one: setsid takes it once it runs."""
        facts = Path(f"/proc/{self.leader.pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2].split()
        return facts[4] != "0"

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # EIO: the last process of the terminal has ended.
            while chunk := os.read(self.master, 65536):
                self.chunks.append((time.monotonic(), chunk))

    @property
    def text(self) -> str:
        """Everything written so far."""
        return b"".join(chunk for _, chunk in list(self.chunks)).decode("utf-8", "backslashreplace")

    def first_seen(self, token: str) -> float | None:
        """Return the monotonic time at which `token` was there, None when it is not."""
        so_far = b""
        for moment, chunk in list(self.chunks):
            so_far += chunk
            if token.encode() in so_far:
                return moment
        return None

    def close(self) -> None:
        """End the process in it and close it."""
        self.leader.kill()
        self.leader.wait()
        self._reader.join(5)
        os.close(self.master)


class Pane:
    """A tmux pane of a person."""

    def __init__(self, person: Person) -> None:
        """Start a tmux server of theirs with one pane, open to messages."""
        self.folder = Path(tempfile.mkdtemp(prefix="chg-tmux-"))
        os.chown(self.folder, person.uid, person.gid)
        self._base = ["tmux", "-S", str(self.folder / "socket"), "-f", "/dev/null"]
        self._person = person
        self._tmux("new-session", "-d", "-x", "120", "-y", "40", "sleep 3600")
        self.path = self._tmux("display-message", "-p", "#{pane_tty}").strip()
        Path(self.path).chmod(0o620)

    def _tmux(self, *args: str) -> str:
        return subprocess.run(
            [*self._base, *args],
            check=True,
            capture_output=True,
            text=True,
            user=self._person.uid,
            group=self._person.gid,
            extra_groups=[],
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "TERM": "xterm", "LC_ALL": "C.UTF-8", "SHELL": "/bin/sh"},
        ).stdout

    @property
    def text(self) -> str:
        """What the pane shows, its wrapped lines joined."""
        return self._tmux("capture-pane", "-p", "-J")

    def close(self) -> None:
        """End the server."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self._tmux("kill-server")
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture
def people() -> Iterator[list[Person]]:
    """Two real users, alice-like and bob-like; skipped where the test may not make users."""
    if os.getuid() != 0:
        pytest.skip("making users needs root")
    made = [Person(), Person()]
    yield made
    for person in made:
        person.leave()
