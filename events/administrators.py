"""Who may act as root on this host: the members of the administrators' group, else of sudo and wheel.

Looked up in a thread of its own, with a deadline: a directory of users may hang. What was found by then
counts.
"""

import contextlib
import grp
import os
import pwd
import threading
from collections.abc import Callable
from pathlib import Path

import anyio.to_thread

from canhazgpu.events.groups import groups_of

GROUPS = ("sudo", "wheel")  # Whose members may become root, as distributions come.
PATIENCE = 2.0  # Seconds.


class Administrators:
    """Asks who may act as root; while one question hangs no other is asked."""

    def __init__(self, group: str) -> None:
        """Take the group of the settings; empty: there is none."""
        self.groups = (group,) if group else GROUPS
        self._asking: _Question | None = None

    async def logged_in(self) -> dict[str, int]:
        """Return, with their uids, those who own a terminal; root is left out."""
        if self._asking is None or self._asking.answered:
            self._asking = _Question(self._find_logged_in)
        return await self._asking.answer()

    async def members(self) -> tuple[dict[str, int], bool]:
        """Return all that are known, wherever they are, without root; and whether nothing hung."""
        question = _Question(self._find_members)
        return await question.answer(), question.answered

    def _find_logged_in(self, found: dict[str, int]) -> None:
        users = [pw for uid in sorted(_owners_of_terminals()) if uid and (pw := _user(uid))]
        gids = set()
        for group in self.groups:
            with contextlib.suppress(KeyError):
                entry = grp.getgrnam(group)
                gids.add(entry.gr_gid)
                found.update((pw.pw_name, pw.pw_uid) for pw in users if pw.pw_name in entry.gr_mem)
        for pw in users:
            if gids & groups_of(pw.pw_name, pw.pw_gid):
                found[pw.pw_name] = pw.pw_uid

    def _find_members(self, found: dict[str, int]) -> None:
        local = [line.split(":") for line in Path("/etc/passwd").read_text("utf-8", "replace").splitlines()]
        for group in self.groups:
            with contextlib.suppress(KeyError):
                entry = grp.getgrnam(group)
                primary = [row[0] for row in local if row[3:4] == [str(entry.gr_gid)]]
                for name in (*entry.gr_mem, *primary):
                    with contextlib.suppress(KeyError):
                        found[name] = pwd.getpwnam(name).pw_uid
                found.pop("root", None)
        self._find_logged_in(found)


class _Question:
    """A look-up that began; its thread never keeps the process from ending."""

    def __init__(self, work: Callable[[dict[str, int]], None]) -> None:
        self._found: dict[str, int] = {}
        self._done = threading.Event()
        self._work = work
        threading.Thread(target=self._run, name="administrators", daemon=True).start()

    @property
    def answered(self) -> bool:
        return self._done.is_set()

    async def answer(self) -> dict[str, int]:
        """Wait as long as it is worth it; return what is known by then."""
        await anyio.to_thread.run_sync(self._done.wait, PATIENCE, abandon_on_cancel=True)
        return dict(self._found)

    def _run(self) -> None:
        try:
            self._work(self._found)
        finally:
            self._done.set()


def _owners_of_terminals() -> set[int]:
    """Return the uids that own a terminal, which is who may be written to there."""
    owners = set()
    for folder, beginning in (("/dev/pts", ""), ("/dev", "tty")):
        with contextlib.suppress(OSError):
            for entry in os.scandir(folder):
                if entry.name.removeprefix(beginning).isdigit():
                    with contextlib.suppress(OSError):
                        owners.add(entry.stat(follow_symlinks=False).st_uid)
    return owners


def _user(uid: int) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        return None
