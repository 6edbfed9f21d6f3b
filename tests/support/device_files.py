"""Device files of GPUs that tests make with mknod, and users who try to open them.

They lead to /dev/null, so that only their permissions decide whether they can be opened.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
from support.people import Person

NULL = os.makedev(1, 3)
# On most hosts, devices cannot be opened in some of them.
PLACES = ("/dev/shm", "/dev", "/tmp")  # noqa: S108 - mkdtemp makes a folder there
TRY = """
import os, sys
folder, uid, gid, *groups = sys.argv[1:]
os.setgroups(list(map(int, groups)))
os.setgid(int(gid))
os.setuid(int(uid))  # With it go all capabilities.
for line in sys.stdin:
    opened = []
    for name in sorted(os.listdir(folder)):
        try:
            os.close(os.open(f"{folder}/{name}", os.O_RDWR))
            opened.append(name.removeprefix("nvidia"))
        except OSError:
            pass
    print(*opened, flush=True)
"""


class DeviceFolder:
    """A folder with the files nvidia0, nvidia1 and so on."""

    def __init__(self, count: int) -> None:
        """Make `count` files, open to all, as the driver does."""
        self.path = Path(tempfile.mkdtemp(prefix="chg-dev-", dir=_place()))
        self.path.chmod(0o755)
        for minor in range(count):
            self.make(minor)

    def file(self, minor: int) -> Path:
        """Return the file with a number."""
        return self.path / f"nvidia{minor}"

    def make(self, minor: int, mode: int = 0o666) -> Path:
        """Make a file, or make it anew, as nvidia-modprobe does after a reload of the driver."""
        path = self.file(minor)
        path.unlink(missing_ok=True)
        os.mknod(path, 0o20000 | mode, NULL)
        path.chmod(mode)
        return path

    @property
    def settings(self) -> str:
        """The settings of a service that owns these files."""
        return f'[enforcement]\ndevices = true\ndirectory = "{self.path}"\n'


def _place() -> str:
    """Return a folder in which device files can be opened, or skip the test."""
    found = (place for place in PLACES if not os.statvfs(place).f_flag & os.ST_NODEV)
    return next(found, "") or pytest.skip("no file system here has devices")


class Opener:
    """A process of a user, in their group and in `groups`, that opens device files when asked."""

    def __init__(self, person: Person, folder: DeviceFolder, groups: tuple[int, ...] = ()) -> None:
        """Start it."""
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-S",
                "-c",
                TRY,
                str(folder.path),
                *map(str, (person.uid, person.gid, *groups)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def opens(self) -> set[int]:
        """The numbers of the files that the user can open now, for reading and writing."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return set(map(int, self._process.stdout.readline().split()))

    def __enter__(self) -> Self:
        """Nothing is to do."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._process.communicate()


@pytest.fixture
def devices() -> Iterator[DeviceFolder]:
    """Four device files; skipped where the test may not make any."""
    if os.getuid() != 0:
        pytest.skip("making device files needs root")
    made = DeviceFolder(4)
    yield made
    shutil.rmtree(made.path)
