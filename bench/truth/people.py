"""Who lives in the lab, and its user database: for the product the only one there is."""

import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = 0
LOCAL = {"alice": 1000, "bob": 1001, "carol": 1002, "jon": 1157}
DIRECTORY = {"sssd": 200001, "entra": 1505433401}  # Above what /etc/login.defs lets useradd give out.
IN_A_RANGE = {"ldap": 108472}  # A directory's user whose number is in jon's range of subordinate uids.
SERVICES = {"root": ROOT, "www": 33}
EVERYBODY = {**LOCAL, **DIRECTORY, **IN_A_RANGE, **SERVICES}
NAMES = {uid: name for name, uid in EVERYBODY.items()}
SUBUIDS = "jon:100000:65536\ndockremap:165536:65536\n"


def write_etc(etc: Path) -> None:
    """Write what the product reads of /etc."""
    etc.mkdir()
    (etc / "login.defs").write_text("UID_MIN 1000\nUID_MAX 60000\n")
    (etc / "subuid").write_text(SUBUIDS)


def _entry(name: str, uid: int) -> pwd.struct_passwd:
    return pwd.struct_passwd((name, "x", uid, uid, name, f"/home/{name}", "/bin/sh"))


def _by_uid(uid: int) -> pwd.struct_passwd:
    return _entry(NAMES[uid], uid)


def _by_name(name: str) -> pwd.struct_passwd:
    return _entry(name, EVERYBODY[name])


@contextmanager
def user_database() -> Iterator[None]:
    """Let the lab's people be the users of the host."""
    kept = pwd.getpwuid, pwd.getpwnam
    pwd.getpwuid, pwd.getpwnam = _by_uid, _by_name
    try:
        yield
    finally:
        pwd.getpwuid, pwd.getpwnam = kept
