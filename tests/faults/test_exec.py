"""Programs that hang, fork, ignore signals or input, or write too much: all end in time and completely."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import msgspec
import psutil
import pytest
from support.eventually import eventually
from support.notices import notice

from canhazgpu.config.channels import Exec as ExecSettings
from canhazgpu.config.channels import Notify
from canhazgpu.config.settings import Settings
from canhazgpu.events.notices import Notice
from canhazgpu.notifiers.channels import site_program
from canhazgpu.notifiers.channels.exec import Exec
from canhazgpu.notifiers.outcome import Outcome

pytestmark = pytest.mark.anyio
LATE = 40.0  # Seconds; what the programs wait for takes longer.
LONG_NAMES = ["n" * 64 for _ in range(3000)]  # Three times what a pipe holds.
Script = Callable[..., Exec]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Make the channel `exec` with a shell script that records its pid and its group."""

    def make(text: str, timeout: float = 100.0) -> Exec:
        file = tmp_path / "program"
        file.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\n{text}\n")
        file.chmod(0o755)
        return channel(str(file), str(tmp_path), timeout=timeout)

    return make


def channel(*command: str, timeout: float = 100.0) -> Exec:
    """Make the channel with any program."""
    return Exec(Settings(notify=Notify(exec=ExecSettings(command=list(command), timeout=timeout))))


async def deliver(made: Exec, told: Notice | None = None) -> Outcome:
    """Deliver one notice; return the outcome."""
    told = told or notice("python3")
    recipients = await made.recipients(told)
    (outcome,) = await made.deliver(told, recipients, None)
    assert recipients == [outcome.recipient]
    return outcome


def members(folder: Path) -> list[int]:
    """Return the processes in the program's process group."""
    pid = folder / "pid"
    group = int((pid.exists() and pid.read_text()) or 0)  # It may not have written it yet.
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        if group and int(fields[2]) == group and fields[0] != b"Z":
            found.append(int(stat.parent.name))
    return found


async def nobody_is_left(folder: Path) -> None:
    """Fail unless the program's group is empty within a moment."""

    async def empty() -> bool:
        return not members(folder)

    await eventually(empty)


@pytest.fixture
def after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let each time that the program is given begin when it has made a file, however slow it is."""

    def begin_with(*names: str) -> None:
        program: Any = vars(site_program)["_Program"]
        wait, files = program.wait, [tmp_path / name for name in names]

        async def made() -> bool:
            return files[0].exists()

        async def wait_after(self: Any, seconds: float) -> bool:
            if files:
                await eventually(made, 60)
                files.pop(0)
            in_time: bool = await wait(self, seconds)
            return in_time

        monkeypatch.setattr(program, "wait", wait_after)

    return begin_with


async def test_the_program_gets_the_notice_and_little_else(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program gets JSON, its arguments, four variables, no descriptor of ours, and its own session."""
    monkeypatch.setenv("CANHAZGPU_TEST", "not for others")
    made = script(
        'cat > "$1/stdin"; env > "$1/env"; pwd > "$1/cwd"; ls -l /proc/self/fd > "$1/files";'
        ' cut -d" " -f5,6 /proc/$$/stat > "$1/session"'
    )
    told = notice("python3", "日本語", kind="reminder")
    assert made.name == "exec"
    assert await deliver(made, told) == Outcome("program", "delivered")
    assert msgspec.json.decode((tmp_path / "stdin").read_bytes(), type=Notice) == told
    set_by_shell = {"PWD", "OLDPWD", "SHLVL", "_"}
    pairs = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    assert {name: value for name, value in pairs.items() if name not in set_by_shell} == {
        "PATH": site_program.PATH,
        "LC_ALL": "C.UTF-8",
        "CANHAZGPU_NOTICE": told.notice,
        "CANHAZGPU_KIND": "reminder",
    }
    assert (tmp_path / "cwd").read_text() == "/\n"
    assert "socket:" not in (tmp_path / "files").read_text()
    pid = (tmp_path / "pid").read_text().strip()
    assert (tmp_path / "session").read_text().split() == [pid, pid]


@pytest.mark.parametrize(
    ("text", "verdict", "detail"),
    [
        ("exit 0", "delivered", ""),
        ("echo fine", "delivered", ""),
        ("exit 75", "retry", "exit status 75"),
        ("echo no network >&2; exit 75", "retry", "exit status 75: no network"),
        ("exit 1", "failed", "exit status 1"),
        ("printf 'a\\033[31m\\nb\\377'; exit 3", "failed", "exit status 3: a\\x1b[31m b\\xff"),
        ("kill -SEGV $$", "failed", "ended by signal 11"),
    ],
)
async def test_what_an_end_means(script: Script, text: str, verdict: str, detail: str) -> None:
    """Exit statuses are mapped to outcomes, and the detail is the last output without control characters."""
    assert await deliver(script(text)) == Outcome("program", verdict, detail)


async def test_only_the_end_of_what_it_says_is_kept(script: Script) -> None:
    """The detail has at most 500 bytes, also if a character is cut."""
    outcome = await deliver(script("echo start; for i in $(seq 9999); do printf ä; done; exit 1"))
    assert len(outcome.detail) <= 530
    assert "start" not in outcome.detail
    assert outcome.detail.endswith("ää")


@pytest.mark.parametrize(
    "text",
    [
        "exec 0<&-; sleep 0.3",
        "sleep 0.3",
        "head -c 10 > /dev/null",
    ],
    ids=["closes its input", "never reads it", "reads a little"],
)
async def test_a_program_may_leave_the_notice_unread(script: Script, text: str) -> None:
    """A program that does not read a large notice may still succeed."""
    assert (await deliver(script(text), notice(*LONG_NAMES))).verdict == "delivered"


async def test_a_program_that_ignores_sigterm_is_killed(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: Callable[..., None]
) -> None:
    """A program that hangs gets SIGTERM, then SIGKILL, and so do its children."""
    monkeypatch.setattr(site_program, "GRACE", 0.5)
    after("ready", "asked")
    made = script(
        f"trap 'echo asked >> {tmp_path}/asked' TERM; (trap '' TERM; sleep 60) &"
        f" touch {tmp_path}/ready; while true; do sleep 0.05; done",
        timeout=0.5,
    )
    began = time.monotonic()
    outcome = await deliver(made)
    assert time.monotonic() - began > 0.9
    assert (outcome.verdict, outcome.detail[:25]) == ("retry", "not finished within 500ms")
    assert (tmp_path / "asked").exists(), "it was never asked to end"
    await nobody_is_left(tmp_path)


async def test_a_program_that_heeds_sigterm_has_time_to_clean_up(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: Callable[..., None]
) -> None:
    """A program that handles SIGTERM has time to clean up, and the wait ends when it ends."""
    monkeypatch.setattr(site_program, "GRACE", 60.0)
    after("ready")
    made = script(
        f"trap 'sleep 0.3; touch {tmp_path}/clean; exit 0' TERM; touch {tmp_path}/ready; sleep 60 & wait",
        timeout=0.3,
    )
    began = time.monotonic()
    assert (await deliver(made)).verdict == "retry"
    assert time.monotonic() - began < LATE
    assert (tmp_path / "clean").exists()
    await nobody_is_left(tmp_path)


@pytest.mark.parametrize("hold", ["", " > /dev/null 2>&1"], ids=["with its output", "without"])
async def test_children_it_leaves_behind_end_with_it(script: Script, tmp_path: Path, hold: str) -> None:
    """A child that keeps the output open delays nothing, and is killed."""
    began = time.monotonic()
    assert (await deliver(script(f"sleep 60{hold} & exit 0"))).verdict == "delivered"
    assert time.monotonic() - began < LATE
    await nobody_is_left(tmp_path)


async def test_a_program_that_prints_without_end_stops_nobody(script: Script, tmp_path: Path) -> None:
    """Gigabytes of output need little memory and do not block the loop."""
    made = script("cat /dev/zero", timeout=1.0)
    busy: list[float] = []

    async def tick() -> None:
        while True:
            before = time.thread_time()  # Of the processor: others may have it meanwhile.
            await anyio.sleep(0.01)
            busy.append(time.thread_time() - before)

    before, began = read_so_far(), time.monotonic()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        outcome = await deliver(made)
        tasks.cancel_scope.cancel()
    assert outcome.verdict == "retry"
    assert len(outcome.detail) < 600
    assert max(busy) < 0.5
    took = time.monotonic() - began
    assert read_so_far() - before < site_program.FASTEST * took + 1e6, "reading it would keep a core busy"
    await nobody_is_left(tmp_path)


def read_so_far() -> int:
    """Return the number of bytes that this thread has read: for a process, its ended children's count too."""
    return int(Path("/proc/thread-self/io").read_text().split()[1])


async def test_a_program_that_never_reads_blocks_nobody(script: Script, tmp_path: Path) -> None:
    """A notice larger than a pipe does not block the loop, and waits for the timeout at most."""
    began = time.monotonic()
    assert (await deliver(script("sleep 60", timeout=0.5), notice(*LONG_NAMES))).verdict == "retry"
    assert time.monotonic() - began < LATE
    await nobody_is_left(tmp_path)


async def test_cancelled_it_ends_its_program_first(script: Script, tmp_path: Path) -> None:
    """If the service stops, its programs are killed."""
    made = script("sleep 60 & sleep 60")

    async def runs() -> bool:
        return (tmp_path / "pid").exists() and len(members(tmp_path)) == 3

    began = time.monotonic()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(deliver, made)
        await eventually(runs)
        tasks.cancel_scope.cancel()
    assert time.monotonic() - began < LATE
    await nobody_is_left(tmp_path)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("/no/such/program", "No such file or directory"),
        ("/etc/passwd", "Permission denied"),
        ("/bin/sh\0", "ValueError"),
    ],
)
async def test_what_cannot_be_started_waits(command: str, reason: str) -> None:
    """A program that cannot be started is an error of the settings, so the notice is retried."""
    assert await deliver(channel(command)) == Outcome("program", "retry", f"it cannot be started: {reason}")


async def test_nothing_leaks(script: Script) -> None:
    """After a hundred programs there are no more descriptors and no children."""
    made = script("exit 0")
    await deliver(made)
    files, children = psutil.Process().num_fds(), set(psutil.Process().children())
    for _ in range(100):
        assert (await deliver(made)).verdict == "delivered"
    assert psutil.Process().num_fds() <= files  # What earlier tests left may go meanwhile.
    assert set(psutil.Process().children()) <= children, "one was not reaped"
