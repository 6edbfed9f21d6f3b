"""What the host's own files say of users: read anew when they change, never asked of a directory."""

from collections.abc import Callable
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from canhazgpu.events.sanitize import printable

NAME, UID, HOME = 0, 2, 5  # name:password:uid:gid:comment:home:shell
LARGEST = 2**24  # Bytes that are read of a file.

T = TypeVar("T")


class FollowedFile(Generic[T]):
    """A file and what was made of it; one that cannot be read counts as empty."""

    def __init__(self, path: Path, read: Callable[[list[str]], T]) -> None:
        """`read` makes of its lines what is wanted of it."""
        self._path = path
        self._read = read
        self._seen: tuple[int, ...] | None = None
        self._value = read([])

    def value(self) -> T:
        """Return what is wanted of the file as it is now."""
        try:
            facts = self._path.stat()
            seen = (facts.st_dev, facts.st_ino, facts.st_mtime_ns, facts.st_size)
            if seen != self._seen:
                with self._path.open("rb") as file:
                    text = file.read(LARGEST).decode("utf-8", "backslashreplace")
                self._seen, self._value = seen, self._read(text.split("\n"))
        except OSError:
            self._seen, self._value = None, self._read([])
        return self._value


class LocalUser(NamedTuple):
    """A user of the host's own file."""

    uid: int
    name: str
    home: str


class LocalUsers:
    """The users in `passwd`, where nearly every host looks first; of two with one uid the first counts."""

    def __init__(self, path: Path = Path("/etc/passwd")) -> None:
        """Read when it is asked."""
        self._file = FollowedFile(path, _users)

    def by_uid(self, uid: int) -> LocalUser | None:
        """Return the user with a uid."""
        return self._file.value()[0].get(uid)

    def by_name(self, name: str) -> LocalUser | None:
        """Return the user with a name."""
        return self._file.value()[1].get(name)


def _users(lines: list[str]) -> tuple[dict[int, LocalUser], dict[str, LocalUser]]:
    by_uid: dict[int, LocalUser] = {}
    by_name: dict[str, LocalUser] = {}
    for line in lines:
        fields = line.split(":")
        if len(fields) > HOME and fields[UID].isdecimal() and fields[NAME][:1] not in {"", "+", "-"}:
            user = LocalUser(int(fields[UID]), printable(fields[NAME]), fields[HOME])
            by_uid.setdefault(user.uid, user)
            by_name.setdefault(fields[NAME], user)
    return by_uid, by_name
