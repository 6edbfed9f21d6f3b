"""Decides which uids are ordinary users of this host or its directory, not system users or nobody."""

from pathlib import Path

from canhazgpu.service.identity.cgroups import NOBODY
from canhazgpu.service.identity.local_users import FollowedFile
from canhazgpu.service.identity.user_names import Users

FIRST_ORDINARY, LAST_LOCAL = 1000, 60000  # The defaults of /etc/login.defs.
DYNAMIC = range(61184, 65520)  # systemd assigns these to services (DynamicUser=).
NOBODIES = frozenset({65534, 65535, NOBODY})


class OrdinaryUsers:
    """Knows the ranges of users as they were at the last `refresh`."""

    def __init__(self, users: Users, etc: Path = Path("/etc")) -> None:
        """Read `login.defs` and `subuid` in `etc`; `users` resolves names."""
        self._users = users
        self._defined = FollowedFile(etc / "login.defs", _local_range)
        self._given = FollowedFile(etc / "subuid", _subuid_ranges)
        self._first, self._last = self._defined.value()
        self._subuids = self._given.value()
        self.generation = 0  # Grows with each change of the files that is seen.

    def refresh(self) -> None:
        """Look whether the files have changed."""
        ranges, subuids = self._defined.value(), self._given.value()
        if (ranges, subuids) != ((self._first, self._last), self._subuids):
            (self._first, self._last), self._subuids = ranges, subuids
            self.generation += 1

    def includes(self, uid: int) -> bool:
        """Return whether a uid is an ordinary user of this host, or of a directory that knows its name."""
        if not self.could_include(uid):
            return False
        return uid <= self._last or self._users.name(uid) is not None

    def could_include(self, uid: int) -> bool:
        """Return whether a uid is one that only users have, even if no directory knows its name now."""
        return uid >= self._first and uid not in DYNAMIC and uid not in NOBODIES

    def owner_of_subuid(self, uid: int) -> int | None:
        """Return the owner of the subordinate range of a uid, or None for the uid of a named user."""
        if self._users.name(uid) is not None:
            return None
        for owner, first, count in self._subuids:
            if first <= uid < first + count:
                return int(owner) if owner.isdigit() else self._users.uid(owner)
        return None


def _local_range(lines: list[str]) -> tuple[int, int]:
    found = {"UID_MIN": FIRST_ORDINARY, "UID_MAX": LAST_LOCAL}
    for line in lines:
        words = line.split()
        if len(words) == 2 and words[0] in found and words[1].isdigit():  # noqa: PLR2004 - a name and a value
            found[words[0]] = int(words[1])
    return found["UID_MIN"], found["UID_MAX"]


def _subuid_ranges(lines: list[str]) -> list[tuple[str, int, int]]:
    """Return owners, as names or numbers, and their ranges."""
    ranges = []
    for line in lines:
        owner, _, rest = line.partition(":")
        first, _, count = rest.partition(":")
        if owner and first.isdigit() and count.isdigit():
            ranges.append((owner, int(first), int(count)))
    return ranges
