"""File systems that never answer, such as a home on a server that is down, delay nothing for long."""

import ctypes
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import until
from support.people import Person
from support.proc import Host

from canhazgpu.service.identity import slow_files
from canhazgpu.service.identity.home_mounts import HomeMounts, Mounted
from canhazgpu.service.identity.ordinary_users import OrdinaryUsers
from canhazgpu.service.identity.slow_files import MOST, PATIENCE, SlowFiles
from canhazgpu.service.identity.user_names import Users

DETACH = 2
HOST = "27 1 254:0 / / rw - ext4 /dev/vda rw\n28 27 0:99 / /mnt rw - nfs4 server:/ rw\n"


@pytest.fixture
def dead(folder: Path) -> Iterator[Path]:
    """A file system whose server accepts requests and never answers."""
    if os.geteuid() != 0:
        pytest.skip("mount needs root")
    libc, place = ctypes.CDLL(None, use_errno=True), folder / "dead"  # A home lies only so deep.
    place.mkdir()
    try:
        server = os.open("/dev/fuse", os.O_RDWR)
    except OSError as error:
        pytest.skip(f"/dev/fuse: {error.strerror}")
    options = f"fd={server},rootmode=40000,user_id=0,group_id=0"
    if libc.mount(b"dead", bytes(place), b"fuse", 0, options.encode()):
        os.close(server)
        pytest.skip(f"fuse cannot be mounted here: {os.strerror(ctypes.get_errno())}")
    yield place
    os.close(server)
    libc.umount2(bytes(place), DETACH)


def owner(path: str) -> int:
    """Return the owner of a file."""
    return os.lstat(path).st_uid


def test_what_hangs_is_waited_for_once(dead: Path, tmp_path: Path) -> None:
    """A file that hangs is waited for once; while some hang, others still have answers."""
    files, until_s = SlowFiles(), time.monotonic() + 120
    others = _threads()
    until(lambda: files.ask(owner, str(tmp_path), until_s) == 0)
    assert files.ask(owner, str(tmp_path / "nothing"), until_s) is None
    began = time.monotonic()
    for name in ("", *map(str, range(MOST - 1))):
        assert files.ask(owner, str(dead / name), until_s) is None
        assert files.ask(owner, str(dead / name), until_s) is None
    assert files.ask(owner, str(tmp_path), until_s) is None
    assert time.monotonic() - began < MOST * PATIENCE + 60
    assert len(_threads() - others) == MOST


def _threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "slow-files"}


def test_it_is_asked_again_when_it_answers() -> None:
    """A file is asked again when it answers."""
    files, go_on = SlowFiles(), threading.Event()

    def slow(path: str) -> str:
        go_on.wait(60)
        return path

    assert files.ask(slow, "x", time.monotonic()) is None
    go_on.set()
    until(lambda: files.ask(slow, "x", time.monotonic() + 60) == "x")


def test_a_home_that_hangs_hides_no_other(
    dead: Path, tmp_path: Path, people: list[Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A home that hangs does not hide other homes, and its owner is known by its name."""
    monkeypatch.setattr(slow_files, "PATIENCE", 3.0)  # As long as this process may be halted.
    ada, bob = people
    ada.set_home(str(dead / ada.name))
    host = Host(tmp_path)
    host.give(1, mountinfo=HOST.replace("/mnt", str(dead)))
    (host.proc / "1" / "root").symlink_to("/")
    rows = [f"0:99 /{ada.name} /a rw", f"254:0 /home/{bob.name} /b rw", "0:99 /else /c rw"]
    lines = [f"9 8 {row} master:1 - ext4 /dev/vda rw" for row in rows]
    host.give(7, mountinfo="\n".join(lines))
    users = Users()
    began = time.monotonic()
    found = HomeMounts(users, OrdinaryUsers(users, host.etc), host.proc).mounted(7, None, began + 120)
    assert found == [
        Mounted(ada.uid, str(dead / ada.name), writable=True),
        Mounted(bob.uid, f"/home/{bob.name}", writable=True),
    ]
    assert time.monotonic() - began < 60
