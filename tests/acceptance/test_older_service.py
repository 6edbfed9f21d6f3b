"""Commands against a service that is older than they are, as after an upgrade that has not restarted it."""

import subprocess
from collections.abc import Iterator

import msgspec
import pytest
from support.daemon import COMMAND, Daemon, gpu, until
from support.mig import instance
from support.older_service import older_service
from support.programs import need
from support.screens import Screen

from canhazgpu.cli.doctor import gpu_checks
from canhazgpu.client import Client, check
from canhazgpu.config.settings import Settings


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A host with a divided GPU; commands reach its service as it was before there were instances."""
    made = Daemon(tmp_path_factory.mktemp("host"))
    made.place(
        gpu(0, uuid="GPU-card"),
        instance(0, "1g.10gb", "MIG-small"),
        gpu(1, uuid="GPU-whole"),
        gpu(2, error="GPU_IS_LOST"),
    )
    made.start()
    with older_service(made.folder / "s", made.folder / "older"):
        yield made
    made.stop()


def run(host: Daemon, *words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run a command against the older service."""
    return subprocess.run(
        [*COMMAND, *words],
        env={**host.environment, "CANHAZGPU_SOCKET": str(host.folder / "older"), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("status", "--long"),
        ("status", "--json"),
        ("status", "--free", "--sort", "memory"),
        ("who",),
        ("queue",),
        ("reservations",),
        ("history",),
        ("violations",),
        ("report", "--by", "gpu"),
        ("bookings",),
    ],
)
def test_what_commands_show(host: Daemon, words: tuple[str, ...]) -> None:
    """The divided GPU is one GPU, as it was."""
    done = run(host, *words)
    assert (done.returncode, done.stderr) == (0, "")


def test_status(host: Daemon) -> None:
    """Each card has its line."""
    assert [line.partition(" (")[0] for line in run(host, "status").stdout.splitlines()] == [
        "GPU 0: AVAILABLE",
        "GPU 1: AVAILABLE",
        "GPU 2: ERROR",
    ]


def test_check(host: Daemon) -> None:
    """An instance in CUDA_VISIBLE_DEVICES is its card."""
    for named, said in (("MIG-small", "GPU 0 is not reserved"), ("1", "GPU 1 is not reserved")):
        done = run(host, "check", CUDA_VISIBLE_DEVICES=named, CUDA_DEVICE_ORDER="PCI_BUS_ID")
        assert (done.returncode, said in done.stdout + done.stderr) == (4, True), done
    found = check({"CUDA_VISIBLE_DEVICES": "MIG-small"}, client=Client(str(host.folder / "older")))
    assert (found.gpus, found.missing) == ([0], [0])


@pytest.mark.parametrize(
    ("line", "words"),
    [("canhazgpu reserve --mig ", []), ("canhazgpu reserve --gpu-ids ", ["0", "1"])],
)
def test_completion(host: Daemon, line: str, words: list[str]) -> None:
    """There are no profiles to offer, and no traceback."""
    environment = {"_CANHAZGPU_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}

    def offered() -> list[str]:
        done = run(host, _TYPER_COMPLETE_ARGS=line, **environment)
        assert (done.returncode, done.stderr) == (0, "")
        return [row.partition("\t")[0] for row in done.stdout.splitlines() if row]

    until(lambda: offered() == words)


def test_doctor(host: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary user sees what the service reads."""
    monkeypatch.setattr(gpu_checks, "has_service_rights", lambda _: False)
    settings = msgspec.structs.replace(Settings(), socket=str(host.folder / "older"))
    assert [found[:2] for found in gpu_checks.gpus(settings)] == [
        ("ok", "the service reads 3 GPUs"),
        ("fail", "GPU 2: GPU is lost"),
    ]


def test_top(host: Daemon) -> None:
    """Its first line counts the cards."""
    need("tmux")
    environment = {**host.environment, "CANHAZGPU_SOCKET": str(host.folder / "older")}
    screen = Screen([*COMMAND, "top", "-i", "500ms"], environment, width=110, height=32)
    try:
        until(lambda: "3 GPUs: 2 free, 1 error" in screen.text, 20)
    finally:
        screen.close()
