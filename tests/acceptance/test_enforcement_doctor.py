"""`canhazgpu doctor` says whether enforcement works on this host, and what to do where it does not."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import COMMAND, PATIENCE, Daemon, gpu, until
from support.device_files import DeviceFolder, devices
from support.people import Person

__all__ = ["devices"]
KEEPS = "ModifyDeviceFiles: 1\nDeviceFileUID: 0\nDeviceFileGID: 44\nDeviceFileMode: 432\n"
LEAVES, RESETS = "ModifyDeviceFiles: 0\nDeviceFileMode: 438\n", "ResmanDebugLevel: 1\nModifyDeviceFiles: 1\n"


@pytest.fixture
def enforced(folder: Path, devices: DeviceFolder) -> Iterator[Daemon]:
    """A host whose settings ask for enforcement. The service does not run yet."""
    params = folder / "params"
    params.write_text(LEAVES)
    daemon = Daemon(folder, f'{devices.settings}driver_params = "{params}"\n')
    daemon.place(*(gpu(index, memory_used_mb=45) for index in range(4)))
    yield daemon
    daemon.stop()


def found(daemon: Daemon) -> list[tuple[str, str]]:
    """Return the state and the text of each finding about device files."""
    rows = json.loads(daemon.run("doctor", "--json").stdout)
    return [(row["state"], row["found"] + " " + row["remedy"]) for row in rows if row["check"] == "devices"]


def are_closed(devices: DeviceFolder) -> bool:
    """Tell whether others than the holders can open none of the files."""
    return all(devices.file(minor).stat().st_mode & 0o007 == 0 for minor in range(4))


def test_all_is_well_once_the_service_has_closed_the_files(enforced: Daemon, devices: DeviceFolder) -> None:
    """Before the service runs, the files are open and that is said; then each is fine."""
    assert {state for state, _ in found(enforced)[:4]} == {"warn"}
    enforced.start()
    until(lambda: are_closed(devices))
    assert [state for state, _ in found(enforced)] == ["ok"] * 5


@pytest.mark.parametrize(
    ("params", "state", "words"),
    [
        (RESETS, "warn", "NVreg_ModifyDeviceFiles=0"),
        ("", "warn", "NVreg"),
        (None, "skip", "load the driver"),
        (KEEPS, "ok", "0660"),
    ],
)
def test_a_driver_that_resets_the_files_is_explained(
    enforced: Daemon, params: str | None, state: str, words: str
) -> None:
    """The option of the kernel module that keeps nvidia-modprobe from opening the files is named."""
    path = enforced.folder / "params"
    path.unlink() if params is None else path.write_text(params)
    said = found(enforced)[-1]
    assert said[0] == state
    assert words in said[1]


def test_files_that_are_missing_or_no_device_files_are_named(enforced: Daemon, devices: DeviceFolder) -> None:
    """A regular file is no device file. Without any file, the program that creates them is named."""
    devices.file(1).unlink()
    devices.file(1).touch()
    assert [state for state, _ in found(enforced)[:4]] == ["warn", "fail", "warn", "warn"]
    for minor in range(4):
        devices.file(minor).unlink()
    assert "nvidia-modprobe" in found(enforced)[0][1]


def test_names_that_nobody_has_are_said(enforced: Daemon) -> None:
    """A user or a group of the settings that does not exist is named; those of the default are not."""
    config = enforced.folder / "config.toml"
    config.write_text(config.read_text() + 'users = ["no-such"]\ngroups = ["root", "none-such"]\n')
    said = [text for _, text in found(enforced) if "there is no" in text]
    assert [text.split(" correct")[0] for text in said] == [
        "enforcement.users: there is no user no-such",
        "enforcement.groups: there is no group none-such",
    ]


def test_suspended_enforcement_and_files_that_were_left_closed_are_said(
    enforced: Daemon, devices: DeviceFolder
) -> None:
    """Each names the command that puts it right."""
    enforced.start()
    until(lambda: are_closed(devices))
    enforced.stop()
    config = enforced.folder / "config.toml"
    text = config.read_text()
    config.write_text(text.replace("devices = true", "devices = false"))
    assert "enforcement restore" in found(enforced)[0][1]
    config.write_text(text)
    assert enforced.run("enforcement", "restore").returncode == 0
    assert "enforcement resume" in found(enforced)[0][1]


def test_a_service_that_is_not_root_says_so_once_and_serves(
    enforced: Daemon, devices: DeviceFolder, people: list[Person]
) -> None:
    """It grants GPUs and changes nothing. Doctor names the user that it runs as."""
    owner = people[0]
    for path in (enforced.folder, *enforced.folder.iterdir()):
        os.chown(path, owner.uid, owner.gid)
    with (enforced.folder / "service.log").open("w") as log:
        process = subprocess.Popen(
            owner.command(*COMMAND, "serve"), env=enforced.environment, stdout=log, stderr=log
        )
    try:
        until(lambda: enforced.status().count("AVAILABLE") == 4)
        assert enforced.run("reserve", "--gpus", "1", person=people[1]).returncode == 0
        assert devices.file(0).stat().st_mode & 0o777 == 0o666
        state, text = found(enforced)[0]
        assert (state, owner.name in text) == ("fail", True)
    finally:
        process.terminate()
        process.wait(PATIENCE)
    said = (enforced.folder / "service.log").read_text()
    assert said.count("enforcement_failed") == 1, said
    assert "run the service as root" in said
