"""Device files get their permissions, are put right when somebody else changes them, and are given back."""

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from support.device_files import DeviceFolder, Opener, devices
from support.eventually import until
from support.people import Person

from canhazgpu.config.integrations.enforcement import Enforcement as Rules
from canhazgpu.config.settings import Settings
from canhazgpu.service.enforcement import restoration
from canhazgpu.service.enforcement.access import Access, only_for, read_access, write_access
from canhazgpu.service.enforcement.device_files import DeviceFiles
from canhazgpu.service.enforcement.former_access import FILE, FormerAccess

__all__ = ["devices"]
ROUNDS = int(os.environ.get("ENFORCEMENT_ROUNDS", "200"))
NOBODY = only_for((), ())
DRIVERS = Access(uid=0, mode=0o666)


@pytest.fixture
def files(devices: DeviceFolder, tmp_path: Path) -> DeviceFiles:
    """The owner of four device files."""
    return DeviceFiles(devices.path, FormerAccess(tmp_path))


@pytest.fixture
def ramfs(tmp_path: Path) -> Iterator[Path]:
    """A file system without ACLs."""
    folder = tmp_path / "ramfs"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "ramfs", "ramfs", folder], check=False).returncode:
        pytest.skip("mounting needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_random_holders_and_nobody_else_can_open_the_files(
    files: DeviceFiles, devices: DeviceFolder, people: list[Person]
) -> None:
    """After every change, each user opens exactly the GPUs that are theirs."""
    ann, bob = people
    chance = random.Random(20261130)
    with Opener(ann, devices) as first, Opener(bob, devices) as second:
        assert first.opens == second.opens == {0, 1, 2, 3}
        for _ in range(ROUNDS):
            holder = {minor: chance.choice([ann, bob, None]) for minor in range(4)}
            wanted = {minor: only_for([one.uid] if one else [], ()) for minor, one in holder.items()}
            files.apply(wanted, {})
            assert first.opens == {minor for minor, one in holder.items() if one is ann}
            assert second.opens == {minor for minor, one in holder.items() if one is bob}


def test_members_of_a_group_that_is_named_can_open_a_file_and_those_of_its_own_group_cannot(
    files: DeviceFiles, devices: DeviceFolder, people: list[Person]
) -> None:
    """Administrators get in by their group. The group that the driver gave the file does not count."""
    ann, bob = people
    os.chown(devices.file(0), 0, 44444)
    files.apply({0: only_for((), [bob.gid])}, {})
    with Opener(ann, devices, (44444,)) as outsider, Opener(bob, devices) as member:
        assert (outsider.opens & {0}, member.opens & {0}) == (set(), {0})


@pytest.mark.parametrize("former", [DRIVERS, Access(uid=0, mode=0o660), Access(uid=12345, mode=0o600)])
def test_files_get_back_their_former_permissions(
    files: DeviceFiles, devices: DeviceFolder, tmp_path: Path, former: Access
) -> None:
    """What is remembered on the disk is enough to restore owner and mode, also by another process."""
    write_access(devices.file(0), former)
    files.apply({0: only_for([1234], ())}, {"A": 0})
    assert read_access(devices.file(0)) == only_for([1234], ())
    again = FormerAccess(tmp_path)
    assert (again.files, again.minors) == ({str(devices.file(0)): former}, {"A": 0})
    assert DeviceFiles(devices.path, again).restore() == []
    assert read_access(devices.file(0)) == former
    assert not (tmp_path / FILE).exists()


def test_what_the_service_restores_at_the_same_time_is_reported(
    files: DeviceFiles, devices: DeviceFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service may see that it is suspended before the command has changed a file."""
    files.apply({0: NOBODY, 1: NOBODY}, {})
    suspend = FormerAccess.suspend

    def served(former: FormerAccess) -> None:
        suspend(former)
        files.restore()

    monkeypatch.setattr(FormerAccess, "suspend", served)
    settings = Settings(state_dir=str(tmp_path), enforcement=Rules(devices=True, directory=str(devices.path)))
    given, failed = restoration.restore(settings, suspend=True)
    assert (given, failed) == ([str(devices.file(minor)) for minor in range(2)], [])
    assert [read_access(devices.file(minor)) for minor in range(2)] == [DRIVERS, DRIVERS]
    assert not (tmp_path / FILE).exists()


def test_a_former_acl_comes_back(files: DeviceFiles, devices: DeviceFolder) -> None:
    """An ACL that an administrator had set is restored as it was."""
    mine = only_for([4321], [77])
    former = Access(uid=0, mode=0o664, acl=mine.acl and mine.acl[:-8] + b"\x20\x00\x04\x00\xff\xff\xff\xff")
    write_access(devices.file(0), former)
    files.apply({0: NOBODY}, {})
    files.restore()
    assert read_access(devices.file(0)) == former


def test_a_file_that_is_no_longer_wanted_gets_its_former_permissions(
    files: DeviceFiles, devices: DeviceFolder
) -> None:
    """A GPU that is not managed any more is open again, and the others stay closed."""
    files.apply({0: NOBODY, 1: NOBODY}, {})
    files.apply({1: NOBODY}, {})
    assert [read_access(devices.file(minor)) for minor in range(2)] == [DRIVERS, NOBODY]


@pytest.mark.parametrize("change", ["mode", "acl", "new file"])
def test_what_somebody_else_changes_is_noticed_and_put_right(
    files: DeviceFiles, devices: DeviceFolder, change: str
) -> None:
    """A file that nvidia-modprobe or udev resets is closed again, and that is logged once."""
    for _ in range(2):
        files.apply({0: NOBODY}, {})
        if change == "mode":
            devices.file(0).chmod(0o666)
        elif change == "acl":
            write_access(devices.file(0), only_for([999], ()))
        else:
            devices.make(0)
        assert files.differ()
        with capture_logs() as logs:
            files.apply({0: NOBODY}, {})
        assert read_access(devices.file(0)) == NOBODY
    assert logs == []


def test_the_mode_0660_keeps_the_acl(files: DeviceFiles, devices: DeviceFolder) -> None:
    """A driver that gives its files mode 0660 opens them to nobody, and closes them to no holder."""
    files.apply({0: only_for([1234], ())}, {})
    devices.file(0).chmod(0o660)
    assert read_access(devices.file(0)) == only_for([1234], ())


def test_files_that_are_as_they_were_left_are_not_read_again(
    files: DeviceFiles, devices: DeviceFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once their last change is older than the resolution of the clock, a look at them is enough."""
    monkeypatch.setattr("canhazgpu.service.enforcement.device_files.COARSE", 0)
    files.apply({0: NOBODY, 1: NOBODY}, {})
    assert not files.differ()
    until(lambda: devices.make(3).stat().st_ctime_ns > devices.file(1).stat().st_ctime_ns)
    devices.file(1).chmod(0o660)
    assert files.differ()


def test_a_missing_file_is_said_once_and_closed_when_it_appears(
    files: DeviceFiles, devices: DeviceFolder
) -> None:
    """Without a device file there is one line in the log; the file is closed once it is there."""
    devices.file(0).unlink()
    with capture_logs() as logs:
        files.apply({0: NOBODY}, {})
        files.apply({0: NOBODY}, {})
    assert [line["event"] for line in logs] == ["enforcement_failed"]
    assert "nvidia-modprobe" in logs[0]["remedy"]
    devices.make(0)
    assert files.differ()
    files.apply({0: NOBODY}, {})
    assert read_access(devices.file(0)) == NOBODY


def test_a_link_or_a_regular_file_is_never_touched(files: DeviceFiles, devices: DeviceFolder) -> None:
    """Only device files get permissions."""
    devices.file(0).unlink()
    devices.file(0).symlink_to(devices.file(1))
    devices.file(2).unlink()
    devices.file(2).write_text("text")
    devices.file(2).chmod(0o644)
    files.apply({0: NOBODY, 2: NOBODY}, {})
    assert read_access(devices.file(1)) == DRIVERS
    assert devices.file(2).stat().st_mode & 0o777 == 0o644


def test_without_acls_the_files_stay_open_and_that_is_said_once(ramfs: Path, tmp_path: Path) -> None:
    """On a file system without ACLs nothing is changed, because it would lock out the holder."""
    os.mknod(ramfs / "nvidia0", 0o20666, os.makedev(1, 3))
    (ramfs / "nvidia0").chmod(0o666)
    files = DeviceFiles(ramfs, FormerAccess(tmp_path))
    with capture_logs() as logs:
        files.apply({0: NOBODY}, {})
        files.apply({0: NOBODY}, {})
    assert [line["remedy"] for line in logs] == [
        "its file system has no ACLs: set enforcement.devices = false"
    ]
    assert (ramfs / "nvidia0").stat().st_mode & 0o777 == 0o666


def test_a_lost_or_damaged_file_counts_as_the_drivers_own_permissions(
    files: DeviceFiles, devices: DeviceFolder, tmp_path: Path
) -> None:
    """If nothing is remembered of a file that is closed, it gets the driver's default."""
    files.apply({0: only_for([1], ())}, {})
    (tmp_path / FILE).write_text("{")
    again = DeviceFiles(devices.path, FormerAccess(tmp_path))
    again.apply({0: NOBODY}, {})
    again.restore()
    assert read_access(devices.file(0)) == DRIVERS
