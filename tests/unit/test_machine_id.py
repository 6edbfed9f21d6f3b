"""The id of this machine: it is the same at each start, and does not reveal /etc/machine-id."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from canhazgpu.events.linux.processes import Process, start_time_of
from canhazgpu.service.storage import machine_id
from canhazgpu.service.storage.machine_id import APPLICATION, Machine, application_id, this_machine


def test_the_id_is_made_as_systemd_does_it() -> None:
    """The id is the same as that of `systemd-id128 machine-id --app-specific`."""
    tool, file = shutil.which("systemd-id128"), Path("/etc/machine-id")
    if tool is None or not file.exists():
        pytest.skip("no systemd-id128 here")
    words = [tool, "machine-id", "--app-specific", APPLICATION.hex()]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    assert application_id(bytes.fromhex(file.read_text().strip())) == said


@pytest.mark.parametrize("text", ["", "uninitialized", "0" * 32, "abc"])
def test_a_machine_without_an_id_is_given_one(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without an id gets one, which is stored in the state directory."""
    file = tmp_path / "machine-id"
    file.write_text(text)
    monkeypatch.setattr(machine_id, "MACHINE_ID", file)
    first, again = (this_machine(tmp_path / "state") for _ in range(2))
    assert first == again
    assert len(first.id) == 32
    assert this_machine(tmp_path / "other").id != first.id


def test_what_is_kept_can_be_read(tmp_path: Path) -> None:
    """Another service can parse the stored identity, and knows whether that service is alive."""
    mine = this_machine(tmp_path)
    assert Machine.of(mine.text) == mine
    assert mine.is_alive()
    gone = Machine(mine.id, mine.boot, Process(os.getpid(), (start_time_of(os.getpid()) or 0) + 1))
    assert gone.shares_boot(mine)
    assert not gone.is_alive()
    assert Machine.of("whatever") is None
