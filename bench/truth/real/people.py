"""Real users of this host, made for the bench and removed after it."""

import os
import pwd
import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

PEOPLE = 4
LOGIN = 'echo "$0" > /proc/self/loginuid; exec "$@"'  # As PAM does when somebody logs in.


@dataclass(frozen=True)
class Person:
    """A user."""

    name: str
    uid: int
    gid: int

    def words(self, *program: str) -> list[str]:
        """Return the words that run `program` as this person; what it reads may lie where they may not."""
        keep = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        return [*self.plain_words(*keep), *program]

    def plain_words(self, *program: str) -> list[str]:
        """Return the words that run `program` as this person."""
        return ["setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups", *program]

    def sudo_words(self, *program: str) -> list[str]:
        """Return the words that run `program` as root, logged in as this person."""
        return ["sh", "-c", LOGIN, str(self.uid), *program]


@contextmanager
def people() -> Iterator[Sequence[Person]]:
    """Make users; they are gone with all their processes at the end."""
    made = []
    try:
        for letter in "abcdefgh"[:PEOPLE]:
            name = f"truth{secrets.token_hex(3)}{letter}"
            subprocess.run(["useradd", "--no-create-home", name], check=True)
            entry = pwd.getpwnam(name)
            made.append(Person(name, entry.pw_uid, entry.pw_gid))
        yield made
    finally:
        for person in made:
            subprocess.run(["pkill", "-KILL", "-u", str(person.uid)], check=False)
            subprocess.run(["userdel", "--force", person.name], check=False, stderr=subprocess.DEVNULL)


def missing() -> str | None:
    """Return why the bench cannot run here, None where it can."""
    if os.geteuid() != 0:
        return "making users needs root"
    for program in ("useradd", "userdel", "pkill", "setpriv", "unshare"):
        if not any(os.access(f"{folder}/{program}", os.X_OK) for folder in os.environ["PATH"].split(":")):
            return f"there is no {program}"
    if not sys.platform.startswith("linux"):
        return "this is not Linux"
    return None
