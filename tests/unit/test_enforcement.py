"""Enforcement follows the journal, and nothing of it is loaded where it is off."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from support.device_files import DeviceFolder, devices

from canhazgpu.config.integrations.enforcement import Enforcement as Rules
from canhazgpu.config.settings import Settings
from canhazgpu.events.gpu import GpuUsage
from canhazgpu.events.reservations import MANUAL, Record
from canhazgpu.service.enforcement.access import Access, only_for, read_access
from canhazgpu.service.enforcement.enforcement import Enforcement
from canhazgpu.service.enforcement.former_access import FILE, Former, FormerAccess
from canhazgpu.service.enforcement.switch import open_enforcement
from canhazgpu.service.identity.user_names import Users
from canhazgpu.service.storage.journal import Card, Journal, State

__all__ = ["devices"]
RECORD = Record(id="r1-1", kind=MANUAL, user="u", uid=1234, gpus=(0,), started_ms=0)
STATE = State(dataset="d", records={RECORD.id: RECORD}, cards={"0": Card(uuid="A")})
CAPABILITIES = "-all,+sys_ptrace,+dac_read_search,+kill,+mknod"
APPLY = """
import sys
from pathlib import Path
from canhazgpu.service.enforcement.access import only_for
from canhazgpu.service.enforcement.device_files import DeviceFiles
from canhazgpu.service.enforcement.former_access import FormerAccess
DeviceFiles(Path(sys.argv[1]), FormerAccess(Path(sys.argv[2]))).apply({0: only_for([1234], ())}, {})
"""


@pytest.fixture
def rules(devices: DeviceFolder, tmp_path: Path) -> Settings:
    """Settings with enforcement of four device files."""
    enforcement = Rules(devices=True, directory=str(devices.path))
    return Settings(state_dir=str(tmp_path), enforcement=enforcement)


@pytest.fixture
def enforcement(rules: Settings) -> Enforcement:
    """Enforcement after a scan that found GPU A with the number 2."""
    made = Enforcement(rules, Users(), None)
    made.seen = lambda: {0: GpuUsage(index=0, uuid="A", name="H100", minor=2)}
    made.check()
    return made


def test_the_files_follow_also_if_the_journal_cannot_be_written(
    enforcement: Enforcement, devices: DeviceFolder, tmp_path: Path
) -> None:
    """A grant is answered even then, so its holder can open the GPU."""
    journal = Journal(tmp_path / "no such folder" / "journal")
    journal.follow = enforcement.follow
    with pytest.raises(FileNotFoundError):
        journal.write(STATE)
    assert read_access(devices.file(2)) == only_for([1234], ())


def test_the_numbers_of_this_boot_count_before_the_first_scan(
    enforcement: Enforcement, rules: Settings, devices: DeviceFolder
) -> None:
    """A restarted service knows the files of the GPUs at once."""
    enforcement.follow(STATE)
    restarted = Enforcement(rules, Users(), None)
    restarted.follow(msgspec.structs.replace(STATE, records={}))
    assert read_access(devices.file(2)) == only_for((), ())


def test_after_a_boot_only_files_that_are_still_closed_are_remembered(
    devices: DeviceFolder, tmp_path: Path
) -> None:
    """The driver makes its files anew at boot, maybe in another way."""
    files = {str(devices.file(minor)): Access(uid=0, mode=0o640) for minor in range(2)}
    os.setxattr(devices.file(1), "system.posix_acl_access", only_for((), ()).acl or b"")
    former = Former(boot="another", files=files, minors={"A": 0})
    (tmp_path / FILE).write_bytes(msgspec.json.encode(former))
    found = FormerAccess(tmp_path)
    assert (list(found.files), found.minors) == ([str(devices.file(1))], {})


def test_a_gpu_that_the_journal_lacks_is_asked_for_once(enforcement: Enforcement) -> None:
    """A card that was put in place of another is closed once the journal knows it."""
    asked: list[bool] = []
    enforcement.stale = lambda: asked.append(True)
    enforcement.journal_state = lambda: msgspec.structs.replace(STATE, cards={})
    for _ in range(3):
        enforcement.check()
    assert asked == [True]


def test_nothing_is_imported_where_it_is_off(tmp_path: Path) -> None:
    """Without the setting, and without files to give back, the service does not load the package."""
    program = (
        "import sys\n"
        "from canhazgpu.config.settings import Settings\n"
        "from canhazgpu.service.daemon import open_enforcement\n"
        f"assert open_enforcement(Settings(state_dir={str(tmp_path)!r}), None, None) is None\n"
        "loaded = [name for name in sys.modules if 'service.enforcement.' in name]\n"
        "assert loaded == ['canhazgpu.service.enforcement.switch'], loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_files_are_given_back_at_a_start_without_enforcement(
    enforcement: Enforcement, rules: Settings, devices: DeviceFolder
) -> None:
    """Switching it off and restarting the service opens the files."""
    enforcement.follow(STATE)
    off = msgspec.structs.replace(rules.enforcement, devices=False)
    assert open_enforcement(msgspec.structs.replace(rules, enforcement=off), Users(), None) is None
    assert read_access(devices.file(2)) == Access(uid=0, mode=0o666)


def test_the_capabilities_of_the_unit_are_enough(devices: DeviceFolder, tmp_path: Path) -> None:
    """Root changes the ACLs of its own files without CAP_CHOWN, CAP_FOWNER and CAP_DAC_OVERRIDE."""
    limited = ["setpriv", f"--bounding-set={CAPABILITIES}", f"--inh-caps={CAPABILITIES}"]
    words = [*limited, sys.executable, "-c", APPLY, str(devices.path), str(tmp_path)]
    subprocess.run(words, check=True)
    assert read_access(devices.file(0)) == only_for([1234], ())
