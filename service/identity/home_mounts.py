"""Finds the home folders that a process has mounted, by mapping its mounts to the host's paths.

The root of a mount (see proc_pid_mountinfo(5)) is relative to its file system, not to the host's root, so it
is appended to every mount point of that file system on the host.
"""

import os
import posixpath
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from canhazgpu.service.identity.ordinary_users import OrdinaryUsers
from canhazgpu.service.identity.slow_files import SlowFiles
from canhazgpu.service.identity.user_names import Users

LARGEST = 2**20  # Maximum bytes of a list of mounts, because the user of a container can make it long.
MOST_MOUNTS = 256  # Of a process, and
MOST_PATHS = 32  # different folders of the host among them that are looked at.
DEEPEST_HOME = 6  # Components of a home's path.
MOST_LINKS = 16
_OCTAL = re.compile(r"\\([0-7]{3})")


class Mount(msgspec.Struct, frozen=True):
    """One line of mountinfo."""

    device: str
    root: str
    point: str
    writable: bool


class Mounted(msgspec.Struct, frozen=True):
    """A folder in a user's home that a process has mounted."""

    uid: int
    path: str
    writable: bool


class HomeMounts:
    """Finds mounted homes. The look-ups by name and by uid in the user database must agree."""

    def __init__(self, users: Users, persons: OrdinaryUsers, proc: Path = Path("/proc")) -> None:
        """`users` resolves names and homes; process 1 in `proc` shows the host's own mounts."""
        self._users = users
        self._persons = persons
        self._proc = proc
        self._files = SlowFiles()

    def mounted(self, pid: int, container: str | None, until: float) -> list[Mounted]:
        """Return the home folders that a process has mounted. May block for names, up to a deadline.

        Mounts made by the container service itself, such as the container's root, are left out.
        Raises OSError.
        """
        mounts = _outside(read_mounts(self._proc / str(pid) / "mountinfo"), container)
        host = self._of_host()
        paths: dict[str, bool] = {}
        for mount in mounts[:MOST_MOUNTS]:
            for path in _on_host(mount, host.get(mount.device, [])):
                paths[path] = paths.get(path, False) or mount.writable
        found = []
        for path, writable in list(paths.items())[:MOST_PATHS]:
            uid = self.owner(path, until)
            if uid is not None:
                found.append(Mounted(uid, path, writable))
        return found

    def owner(self, path: str, until: float) -> int | None:
        """Return the owner of the innermost home that contains a host path, if there is exactly one owner."""
        for above in _ancestors(path):
            candidates = {self._users.ask(self._users.uid, posixpath.basename(above), until)}
            candidates.add(self._files.ask(self._owner_of, above, until))
            owners = {uid for uid in candidates if uid is not None and self._has_home(uid, above, until)}
            if owners:
                return owners.pop() if len(owners) == 1 else None
        return None

    def _has_home(self, uid: int, path: str, until: float) -> bool:
        home = self._users.ask(self._users.home, uid, until)
        if home is None or not home.startswith("/") or not self._persons.includes(uid):
            return False
        home = posixpath.normpath(home)
        return path == home or path == self._files.ask(self._resolved, home, until)

    def _owner_of(self, path: str) -> int:
        """Return whose a folder is; its file system may never answer. Raises OSError."""
        return os.lstat(f"{self._proc}/1/root{path}").st_uid

    def _resolved(self, home: str) -> str:
        """Follow links as the host does: the service itself may be kept from /home. It may never return."""
        parts, so_far, links = home.split("/")[:0:-1], "", 0
        while parts:
            step = posixpath.normpath(f"{so_far}/{parts.pop()}")
            try:
                target = os.readlink(f"{self._proc}/1/root{step}")  # noqa: PTH115
            except OSError:
                so_far = step
                continue
            links += 1
            if links > MOST_LINKS:
                return home
            parts += [part for part in target.split("/")[::-1] if part]
            so_far = "" if target.startswith("/") else so_far
        return so_far or "/"

    def _of_host(self) -> dict[str, list[Mount]]:
        found: dict[str, list[Mount]] = {}
        for process in ("1", "self"):
            with suppress(OSError):
                for mount in read_mounts(self._proc / process / "mountinfo"):
                    found.setdefault(mount.device, []).append(mount)
                break
        return found


def read_mounts(path: Path) -> list[Mount]:
    """Read a list of mounts up to a maximum length. Raises OSError."""
    with path.open("rb") as file:
        text = file.read(LARGEST).decode("utf-8", "backslashreplace")
    rows = (line.split(" ") for line in text.split("\n"))
    return [
        Mount(row[2], _plain(row[3]), _plain(row[4]), "ro" not in row[5].split(","))
        for row in rows
        if len(row) > 5  # noqa: PLR2004 - the last one that is read
    ]


def _plain(field: str) -> str:
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), field)


def _outside(mounts: list[Mount], container: str | None) -> list[Mount]:
    """Leave out the root of a container and the files that its service provides."""
    kept = set()
    for mount in mounts:
        parts = mount.root.split("/")
        if container in parts[2:]:  # Such as /containers/ID/hostname in the service's own folder.
            kept.add((mount.device, _folder("/".join(parts[: parts.index(container) - 1]))))
    return [
        mount
        for mount in mounts
        if mount.point != "/"
        and not any(mount.device == device and mount.root.startswith(folder) for device, folder in kept)
    ]


def _on_host(mount: Mount, places: list[Mount]) -> Iterator[str]:
    """Return the host paths of a mount; there are several if it is mounted several times."""
    for place in places:
        if _folder(mount.root).startswith(_folder(place.root)):
            inner = _folder(mount.root).removeprefix(_folder(place.root))
            yield posixpath.normpath(_folder(place.point) + inner)


def _folder(path: str) -> str:
    return path.rstrip("/") + "/"


def _ancestors(path: str) -> list[str]:
    """Return a path and its parents, innermost first, up to the maximum depth of homes."""
    parts = posixpath.normpath(path).split("/")[1 : DEEPEST_HOME + 1]
    return ["/" + "/".join(parts[:depth]) for depth in range(len(parts), 0, -1)]
