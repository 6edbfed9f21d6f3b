"""Real users for tests, created with useradd, with their terminals and processes."""

import contextlib
import fcntl
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
UIDS = range(30_000, 40_000)  # No test uses one of these literally.
TAKEN = 4  # The exit status of useradd if the uid is in use.
LOCKED = "cannot lock"  # What they say if somebody else keeps changing users for 15 seconds.
_had: set[int] = set()  # Services remember for a while which user had a uid before.


def _add(name: str) -> None:
    """Add a user with a random uid that no user of this process had before."""
    while True:
        uid = secrets.choice([one for one in UIDS if one not in _had])
        _had.add(uid)
        done = change_users("useradd", "--no-create-home", "--uid", str(uid), name)
        if done.returncode != TAKEN:
            assert done.returncode == 0, done.stderr
            return


def change_users(*words: str) -> "subprocess.CompletedProcess[str]":
    """Run useradd or its like, one at a time on this machine: each waits only 15 seconds for the others."""

    def changed() -> "subprocess.CompletedProcess[str] | None":
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        return None if done.returncode and LOCKED in done.stderr else done

    with Path(tempfile.gettempdir(), "canhazgpu-tests.users").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done: subprocess.CompletedProcess[str] = until(changed, 60, f"for {words[0]}")
        return done


class Person:
    """A user of this host; the user and all their processes are removed when the test ends."""

    name: str
    uid: int
    gid: int
    _spawned: "list[subprocess.Popen[bytes]]"

    def __init__(self) -> None:
        """Create the user, which needs root."""
        self.name = f"chg{uuid.uuid4().hex[:8]}"
        _add(self.name)
        entry = pwd.getpwnam(self.name)
        self.uid, self.gid = entry.pw_uid, entry.pw_gid
        self._spawned = []

    def spawn(self, *program: str, stdin: int = subprocess.DEVNULL) -> "subprocess.Popen[bytes]":
        """Start `program` as this person. If `stdin` is a terminal, it becomes the controlling terminal."""
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

    def command(self, *program: str) -> list[str]:
        """Return a command line that runs `program` as this person, with the capability to read all files."""
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
        """Return a command line that runs `program` as root, with the login uid of this person."""
        return [sys.executable, "-c", LOGGED_IN, str(self.uid), *program]

    def set_uid(self, uid: int) -> None:
        """Change the uid of the user, as a directory service might."""
        change_users("usermod", "--uid", str(uid), self.name).check_returncode()
        self.uid = uid

    def set_home(self, home: str) -> None:
        """Change the home directory of the user; it is not created."""
        change_users("usermod", "--home", home, self.name).check_returncode()

    def set_comment(self, comment: str) -> None:
        """Change the comment field of the user."""
        change_users("usermod", "--comment", comment, self.name).check_returncode()

    def remove(self) -> None:
        """Kill the processes of the user, and remove the user."""
        subprocess.run(["pkill", "-KILL", "-u", str(self.uid)], check=False)
        for process in self._spawned:
            process.wait()
        change_users("userdel", "--force", self.name)


class Terminal:
    """A pseudo-terminal that belongs to a person. It records what is written to it, and when."""

    def __init__(self, person: Person, mode: int = 0o620) -> None:
        """Open the terminal, and start a process of the person in it."""
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
        """Return whether the process has the controlling terminal yet; setsid sets it after its start."""
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
        """Return the monotonic time at which `token` was written, or None if it was not."""
        so_far = b""
        for moment, chunk in list(self.chunks):
            so_far += chunk
            if token.encode() in so_far:
                return moment
        return None

    def close(self) -> None:
        """Kill the process in the terminal, and close the terminal."""
        self.leader.kill()
        self.leader.wait()
        self._reader.join(5)
        os.close(self.master)


class Pane:
    """A tmux pane of a person."""

    def __init__(self, person: Person) -> None:
        """Start a tmux server of the person with one pane that accepts messages."""
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
        """The content of the pane, with wrapped lines joined."""
        return self._tmux("capture-pane", "-p", "-J")

    def close(self) -> None:
        """Stop the tmux server."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self._tmux("kill-server")
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture
def people() -> Iterator[list[Person]]:
    """Two real users; the test is skipped if it may not create users."""
    if os.getuid() != 0:
        pytest.skip("creating users needs root")
    made = [Person(), Person()]
    yield made
    for person in made:
        person.remove()
