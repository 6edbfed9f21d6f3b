"""A forked command is the same process as an executed one; see tests/support/forks.py."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.daemon import Daemon, serving, until
from support.forks import COMMAND, EXECUTED, PREFERRED, ForkServer, mounted
from support.people import Person

WATCH = ["status", "--watch"]
OWN = (
    "State",
    "SigQ",
    "Pid",
    "Tgid",
    "NS",
    "Vm",
    "Rss",
    "Huge",
    "Threads",
    "FDSize",
    "voluntary",
    "nonvoluntary",
    "x86_Thread",
)


@pytest.fixture(scope="module")
def host() -> Iterator[Daemon]:
    """One service for all tests of this module, which leave it as it was."""
    with serving(1) as daemon:
        yield daemon


def facts(process: "subprocess.Popen[bytes]") -> dict[str, Any]:
    """Return what /proc shows of a process, without what differs between any two."""
    folder = Path(f"/proc/{process.pid}")
    status = (line.partition(":\t") for line in (folder / "status").read_text().splitlines())
    stat = (folder / "stat").read_text().rpartition(") ")[2].split()
    return {
        **{name: value for name, _, value in status if not name.startswith(OWN)},
        "arguments": (folder / "cmdline").read_bytes(),
        "environment": (folder / "environ").read_bytes(),
        "folder": str((folder / "cwd").readlink()),
        "program": str((folder / "exe").readlink()),
        "files": {
            int(file.name): str(file.readlink()) for file in (folder / "fd").iterdir() if int(file.name) < 3
        },
        "parent": stat[1],
        "leads": (stat[2] == str(process.pid), stat[3] == str(process.pid)),
        "nice": stat[16],
        "owner": folder.stat().st_uid,
    }


def started(host: Daemon, words: list[str], person: Person | None, **options: Any) -> dict[str, Any]:
    """Return the facts of a command that watches the GPUs, once it has shown them."""
    shown = host.folder / "shown"
    with shown.open("wb") as output:
        process = subprocess.Popen(
            person.command(*words, *WATCH) if person else [*words, *WATCH],
            env=host.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.DEVNULL,
            **options,
        )
    try:
        until(shown.read_bytes)
        return facts(process)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("session", [False, True])
@pytest.mark.parametrize("one", [None, 0], ids=["root", "person"])
def test_a_forked_command_is_as_an_executed_one(
    host: Daemon, people: list[Person], one: int | None, *, session: bool
) -> None:
    """A forked command has the user, capabilities, signals, environment and streams of an executed one."""
    person = None if one is None else people[one]
    options = {"start_new_session": session, "cwd": "/tmp"}  # noqa: S108 - a folder that everybody may enter
    forked, executed = (started(host, words, person, **options) for words in (COMMAND, EXECUTED))
    assert forked == executed


def test_a_forked_command_sees_mounted_files(host: Daemon, tmp_path: Path) -> None:
    """A command with bind mounts is forked into its own mount namespace and sees these files."""
    (tmp_path / "id").write_text("another\n")
    words = [*mounted([(f"{tmp_path}/id", "/etc/machine-id")]), *COMMAND, *WATCH]
    shown = tmp_path / "shown"
    with shown.open("wb") as output:
        process = subprocess.Popen(words, env=host.environment, stdout=output)
    try:
        until(shown.read_bytes)
        seen = Path(f"/proc/{process.pid}/root/etc/machine-id").read_text()
        arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")[:-1]
        assert (seen, [os.fsdecode(word) for word in arguments]) == ("another\n", [*COMMAND, *WATCH])
        assert Path("/etc/machine-id").read_text() != "another\n"
    finally:
        process.kill()
        process.wait()


def test_a_zone_and_a_driver_need_no_interpreter_of_their_own(nvml_library: Path, tmp_path: Path) -> None:
    """Commands with another zone or driver can be forked; those with NSS modules or a locale cannot."""
    server = ForkServer()
    assert server.can({**os.environ, "TZ": "IST-5:30", "LD_LIBRARY_PATH": str(nvml_library)})
    (tmp_path / "libnss_test.so.2").touch()
    assert not server.can({**os.environ, "LD_LIBRARY_PATH": str(tmp_path)})
    assert not server.can({**os.environ, "LC_ALL": "C"})


def test_a_service_has_its_priority(host: Daemon) -> None:
    """A service that is started with `nice` has that priority."""
    assert host.process
    assert host.process.args[: len(PREFERRED)] == PREFERRED  # type: ignore[index]
    assert facts(host.process)["nice"] == str(os.nice(0) - 10)  # It is relative to that of these tests.


@pytest.mark.parametrize(
    "words", [["--version"], ["--help"], ["status"], ["resrve"], ["reserve", "--gpus", "x"]]
)
def test_output_and_exit_code_are_the_same(host: Daemon, words: list[str]) -> None:
    """Forked and executed commands have the same output and exit code."""
    forked, executed = (
        subprocess.run([*command, *words], env=host.environment, capture_output=True, check=False)
        for command in (COMMAND, EXECUTED)
    )
    assert (forked.returncode, forked.stdout, forked.stderr) == (
        executed.returncode,
        executed.stdout,
        executed.stderr,
    )


def test_a_forked_command_needs_less_than_half_the_processor_time(host: Daemon) -> None:
    """A forked command needs less than half the processor time of an executed one."""
    spent = []
    for command in (COMMAND, EXECUTED):
        before = os.times()
        for _ in range(3):
            subprocess.run([*command, "violations"], env=host.environment, capture_output=True, check=True)
        after = os.times()
        spent.append(sum(after[2:4]) - sum(before[2:4]))
    assert spent[0] < spent[1] / 2
