"""The program of a process, tested with real programs, copies, links and misleading names."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import until
from support.people import Person

from canhazgpu.events.gpu import ProcessReading
from canhazgpu.service.identity.attribution import Attributor
from canhazgpu.service.identity.executables import executable_of, is_roots

SLEEP = str(Path("/bin/sleep").resolve())

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else")


@pytest.fixture
def roots() -> Iterator[Path]:
    """A folder to which only root can write."""
    folder = Path("/usr/local/lib/canhazgpu-test")
    folder.mkdir(mode=0o755)
    yield folder
    shutil.rmtree(folder)


def proven(person: Person, *program: str) -> str | None:
    """Start a program as a user; return the program that it is proven to be."""
    process = person.spawn(*program)
    comm = Path(program[0]).name.encode()[:15]
    until(lambda: Path(f"/proc/{process.pid}/comm").read_bytes().strip() == comm)
    found = Attributor().attribute(ProcessReading(pid=process.pid, memory_mb=1))
    assert found
    return found.program


def test_a_system_program_is_what_it_is(people: list[Person]) -> None:
    """A system program is recognised by its path, whoever runs it."""
    assert proven(people[0], "/bin/sleep", "60") == SLEEP


def test_a_link_to_a_system_program_has_no_other_name(people: list[Person], tmp_path: Path) -> None:
    """A link to a system program does not give it another name."""
    tmp_path.chmod(0o777)
    link = Path("/tmp") / f"Xorg{os.getpid()}"  # noqa: S108 - a place where users put things
    link.symlink_to("/bin/sleep")
    try:
        assert proven(people[0], str(link), "60") == SLEEP
    finally:
        link.unlink()


@pytest.mark.parametrize("owner", ["root", "person"])
def test_a_copy_where_users_may_write_proves_nothing(people: list[Person], owner: str) -> None:
    """A copy in a folder where users can write proves nothing, even if root owns the file."""
    for folder in (Path(f"/tmp/chg{os.getpid()}"), Path(f"/dev/shm/chg{os.getpid()}")):  # noqa: S108 - as above
        if os.statvfs(folder.parent).f_flag & os.ST_NOEXEC:
            continue
        folder.mkdir(mode=0o755)
        os.chown(folder, people[0].uid, people[0].gid)
        try:
            copy = Path(shutil.copy("/bin/sleep", folder / "nvidia-smi"))
            os.chown(copy, 0 if owner == "root" else people[0].uid, 0)
            assert proven(people[0], str(copy), "60") is None
        finally:
            shutil.rmtree(folder)


def test_roots_program_in_roots_place_is_proven_after_an_upgrade_too(
    people: list[Person], roots: Path
) -> None:
    """A program of root stays proven after an upgrade has deleted its file, also if its name is long."""
    program = Path(shutil.copy("/bin/sleep", roots / "nvidia-persistenced"))
    process = people[0].spawn(str(program), "60")
    until(lambda: Path(f"/proc/{process.pid}/comm").read_bytes() == b"nvidia-persiste\n")
    attributor = Attributor()
    reading = ProcessReading(pid=process.pid, memory_mb=1)
    for _ in range(2):
        found = attributor.attribute(reading)
        assert found
        assert found.program == str(program)
        program.unlink(missing_ok=True)


@pytest.mark.parametrize("spoil", ["file", "folder", "group"])
def test_what_others_may_write_is_not_roots(people: list[Person], roots: Path, spoil: str) -> None:
    """If other users can write to the file or its folder, by mode or by group, it is not proven."""
    program = Path(shutil.copy("/bin/sleep", roots / "Xorg"))
    if spoil == "group":
        os.chown(roots, 0, people[0].gid)
    {"file": program, "folder": roots, "group": roots}[spoil].chmod(0o775 if spoil == "group" else 0o777)
    assert proven(people[0], str(program), "60") is None


def test_a_program_that_executes_another_under_its_name_is_seen(people: list[Person], roots: Path) -> None:
    """A program that executes another one under its name is recognised as the other one."""
    folder = Path(f"/tmp/chg{os.getpid()}")  # noqa: S108 - a place of a user's
    folder.mkdir(mode=0o755)
    os.chown(folder, people[0].uid, people[0].gid)
    try:
        shutil.copy("/bin/sleep", folder / "smi")
        go = folder / "go"
        shutil.copy("/bin/sh", roots / "smi")
        script = f"until [ -e {go} ]; do :; done; exec {folder}/smi 60"
        process = people[0].spawn(str(roots / "smi"), "-c", script)
        until(lambda: Path(f"/proc/{process.pid}/comm").read_bytes() == b"smi\n")
        attributor, reading = Attributor(), ProcessReading(pid=process.pid, memory_mb=1)
        first = attributor.attribute(reading)
        go.touch()
        until(lambda: executable_of(f"/proc/{process.pid}") == str(folder / "smi"))
        second = attributor.attribute(reading)
        assert first
        assert second
        assert (first.program, second.program) == (str(roots / "smi"), None)
        assert (first.name, first.start) == (second.name, second.start)
    finally:
        shutil.rmtree(folder)


def test_a_process_that_calls_itself_otherwise_is_not_exempt(people: list[Person]) -> None:
    """A process that changes its name with PR_SET_NAME is not exempt."""
    script = "$0 = 'nvidia-smi'; sleep 60"  # Which calls prctl(PR_SET_NAME).
    process = people[0].spawn("/usr/bin/perl", "-e", script)
    until(lambda: Path(f"/proc/{process.pid}/comm").read_bytes() == b"nvidia-smi\n")
    found = Attributor().attribute(ProcessReading(pid=process.pid, memory_mb=1))
    assert found
    assert found.name == "nvidia-smi"
    assert not (found.program or "").endswith("nvidia-smi")


def test_a_kernel_thread_has_no_program() -> None:
    """A kernel thread has no program, so it is not proven to be one of root's."""
    thread = next((path.parent for path in Path("/proc").glob("[0-9]*/exe") if _is_thread(path)), None)
    if thread is None:
        pytest.skip("no kernel threads are seen here")
    assert executable_of(str(thread)) is None
    assert not is_roots(str(thread), "/sbin/kthreadd")


def _is_thread(path: Path) -> bool:
    try:
        return not path.readlink()
    except FileNotFoundError:
        return path.parent.exists()
    except OSError:
        return False
