"""Finds the administrators of this host: the members of the configured group, or else of sudo and wheel.

A user directory may hang, so every look-up has a deadline; results found by then are used.
"""

import contextlib
import grp
import os
import pwd
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TypeAlias

from canhazgpu.events.linux import user_lookup
from canhazgpu.events.linux.group_membership import groups_of
from canhazgpu.events.linux.user_lookup import LookUp

Work: TypeAlias = Callable[[dict[str, int]], None]
GROUPS = ("sudo", "wheel")  # The groups whose members can become root by default.


class Administrators:
    """Looks up administrators. Every user and group has its own look-up, so a slow one delays no other."""

    def __init__(self, group: str) -> None:
        """Use `group` from the settings; empty means that none is set."""
        self.groups = (group,) if group else GROUPS
        self._asking: dict[int | str, LookUp] = {}  # What hangs is not asked again meanwhile.

    async def logged_in(self) -> dict[str, int]:
        """Return the administrators who own a terminal, with their uids, without root."""
        found, _ = await self._ask(self._about_owners())
        return found

    async def members(self) -> tuple[dict[str, int], bool]:
        """Return all known administrators without root, and whether every look-up finished."""
        works: dict[int | str, Work] = {group: partial(_find_members, group) for group in self.groups}
        return await self._ask(works | self._about_owners())

    def _about_owners(self) -> dict[int | str, Work]:
        return {uid: partial(_find, uid, self.groups) for uid in sorted(_owners_of_terminals()) if uid}

    async def _ask(self, works: dict[int | str, Work]) -> tuple[dict[str, int], bool]:
        """Return what was found by the deadline, and whether that is all."""
        deadline = time.monotonic() + user_lookup.PATIENCE
        for key, work in works.items():
            if key not in self._asking:
                self._asking[key] = LookUp(work)
        found: dict[str, int] = {}
        for key in works:
            found |= await self._asking[key].found(max(0.0, deadline - time.monotonic()))
        whole = all(self._asking[key].ended for key in works)
        self._asking = {key: one for key, one in self._asking.items() if not one.ended}
        return found, whole


def _find(uid: int, groups: Iterable[str], found: dict[str, int]) -> None:
    """Find out whether a user is in one of these groups."""
    user, gids = pwd.getpwuid(uid), set()
    for group in groups:
        with contextlib.suppress(KeyError):
            entry = grp.getgrnam(group)
            gids.add(entry.gr_gid)
            if user.pw_name in entry.gr_mem:
                found[user.pw_name] = uid
    if gids & groups_of(user.pw_name, user.pw_gid):
        found[user.pw_name] = uid


def _find_members(group: str, found: dict[str, int]) -> None:
    """Find the members of a group, also those of this host whose primary group it is."""
    entry = grp.getgrnam(group)
    local = [line.split(":") for line in Path("/etc/passwd").read_text("utf-8", "replace").splitlines()]
    primary = [row[0] for row in local if row[3:4] == [str(entry.gr_gid)]]
    for name in (*entry.gr_mem, *primary):
        with contextlib.suppress(KeyError):
            if uid := pwd.getpwnam(name).pw_uid:
                found[name] = uid


def _owners_of_terminals() -> set[int]:
    """Return the uids that own a terminal."""
    owners = set()
    for folder, beginning in (("/dev/pts", ""), ("/dev", "tty")):
        with contextlib.suppress(OSError):
            for entry in os.scandir(folder):
                if entry.name.removeprefix(beginning).isdigit():
                    with contextlib.suppress(OSError):
                        owners.add(entry.stat(follow_symlinks=False).st_uid)
    return owners
