"""The queue: first come, first served, no GPU stays idle, and nothing is lost if a process dies."""

import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.daemon import COMMAND, until
from support.people import Person
from support.waiters import QueueHost, four_gpus

SLEEP = ("sh", "-c", 'echo "$CUDA_VISIBLE_DEVICES"; exec sleep 600')


@pytest.fixture
def four(folder: Path) -> Iterator[QueueHost]:
    """A host with four idle GPUs."""
    with four_gpus(folder) as host:
        yield host


def first_line(process: "subprocess.Popen[str]") -> str:
    """Return the first line that a command prints."""
    assert process.stdout
    assert select.select([process.stdout], [], [], 100)[0], "nothing was printed"
    return process.stdout.readline().strip()


def free_count(host: QueueHost) -> int:
    """Return the number of available GPUs."""
    return host.status().count(": AVAILABLE")


def test_nobody_passes_who_waits(four: QueueHost) -> None:
    """A new request that would fit is refused while an earlier one claims the free GPUs."""
    four.run("reserve", "--gpus", "2")
    big = four.stand("run", "--gpus", "4", "--wait", "--", *SLEEP)
    assert free_count(four) == 2  # It holds nothing until it gets everything.
    late = four.run("reserve", "--gpus", "1")
    assert (late.returncode, late.stderr) == (
        1,
        (
            "Error: Not enough GPUs available. Requested: 1, Available: 0 (2 GPUs reserved, 2 GPUs claimed"
            " by waiting requests - run 'canhazgpu status' for details)\n"
        ),
    )
    small = four.stand("run", "--new", "--gpus", "1", "--wait", "--", *SLEEP)
    assert [row["count"] for row in four.queue()] == [4, 1]
    four.run("release")
    assert first_line(big) == "0,1,2,3"
    assert [row["position"] for row in four.queue()] == [1]
    big.kill()
    assert first_line(small) in ("0", "1", "2", "3")
    assert four.queue() == []


def test_what_nobody_claims_is_not_kept_idle(four: QueueHost) -> None:
    """A request for a certain GPU leaves the others to those behind it."""
    four.run("reserve", "--gpu-ids", "1")
    four.stand("run", "--new", "--gpu-ids", "1", "--wait", "--", *SLEEP)
    assert four.run("run", "--gpus", "3", "--", "true").returncode == 0


def test_who_waits_for_what_is_drained_keeps_nothing_idle(four: QueueHost) -> None:
    """A request that cannot be served by waiting claims nothing until its GPU is back."""
    four.run("admin", "drain", "3")
    big = four.stand("run", "--gpus", "4", "--wait", "--", *SLEEP)
    assert free_count(four) == 3
    assert four.run("reserve", "--gpus", "1").returncode == 0
    four.run("admin", "undrain", "3")
    late = four.run("reserve", "--gpus", "1")
    assert "Available: 0 (1 GPU reserved, 3 GPUs claimed by waiting requests" in late.stderr
    four.run("release")
    assert first_line(big) == "0,1,2,3"


def test_a_waiter_that_dies_loses_nothing_of_others(four: QueueHost) -> None:
    """Ctrl-C or kill -9 frees the place at once, and the others move up."""
    four.run("reserve", "--gpus", "4")
    places = [four.stand("run", "--new", "--gpus", str(4 - n), "--wait", "--", *SLEEP) for n in range(3)]
    places[0].send_signal(signal.SIGINT)
    assert places[0].wait(60) == 130  # However busy the machine is.
    until(lambda: [row["count"] for row in four.queue()] == [3, 2])
    places[1].kill()
    until(lambda: [row["count"] for row in four.queue()] == [2])
    assert free_count(four) == 0
    four.run("release")
    assert len(first_line(places[2]).split(",")) == 2
    until(lambda: free_count(four) == 2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_of_the_service_keeps_the_order(four: QueueHost, number: signal.Signals) -> None:
    """After a restart of the service, waiting commands keep their places, and a run is watched."""
    running = four.begin("run", "--gpus", "4", "--", *SLEEP)
    first_line(running)
    first = four.stand("run", "--gpus", "4", "--wait", "--", *SLEEP)
    second = four.stand("reserve", "--gpus", "1", "--wait")
    ids = [row["id"] for row in four.queue()]
    four.stop(number)
    four.start()
    assert [row["id"] for row in four.queue()] == ids
    running.kill()
    running.wait()
    assert first_line(first) == "0,1,2,3"
    first.kill()
    assert first_line(second) == "export CUDA_VISIBLE_DEVICES=0"


def test_what_can_never_be_is_told_at_once(four: QueueHost) -> None:
    """A request that can never be served does not wait."""
    for words in (("--gpus", "5"), ("--gpu-ids", "9")):
        done = four.run("run", *words, "--wait", "--", "true")
        assert (done.returncode, done.stdout) == (125, "")


def test_a_wait_has_an_end(four: QueueHost) -> None:
    """`--wait 1s` waits no longer, says so, and leaves nothing in the queue."""
    four.run("reserve", "--gpus", "4")
    began = time.monotonic()
    done = four.run("reserve", "--wait", "1s")
    assert done.returncode == 1
    assert time.monotonic() - began > 1
    waiting, refused = done.stderr.splitlines()
    assert waiting.startswith("Waiting since ")
    assert "position 1" in waiting
    assert "needs 1 of 4: 4 reserved (GPUs 0-3 by root until " in waiting
    assert refused.startswith("Error: no GPUs became free in time")
    assert four.queue() == []


def test_a_user_at_their_limit_holds_nobody_up(four: QueueHost, people: list[Person]) -> None:
    """A request beyond its user's limit waits, and does not hold up the requests of others."""
    alice, bob = people
    four.stop()
    config = four.folder / "config.toml"
    config.write_text(config.read_text() + "[limits]\nmax_gpus_per_user = 2\n")
    four.start()
    four.run("reserve", "--gpus", "2", person=alice)
    mine = four.stand("reserve", "--gpus", "1", "--wait", person=alice)
    assert four.queue()[0]["reason"] == "you hold 2 of the 2 GPUs you may have"
    assert four.run("reserve", "--gpus", "2", person=bob).returncode == 0
    four.run("release", "--gpu-ids", "0", person=alice)
    assert first_line(mine) == "export CUDA_VISIBLE_DEVICES=0"


def test_a_terminal_shows_one_live_line(four: QueueHost) -> None:
    """On a terminal, the position is updated on one line, which is removed at the end."""
    four.run("reserve", "--gpus", "4")
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "reserve", "--wait"], env=four.environment, stdout=slave, stderr=slave
    )
    os.close(slave)
    until(four.queue)
    four.run("release")
    shown = b""
    with suppress(OSError):  # EIO: it has ended.
        while chunk := os.read(master, 65536):
            shown += chunk
    os.close(master)
    assert process.wait(60) == 0
    text = shown.decode()
    assert text.startswith("\r\x1b[KPosition 1 since ")
    assert "\r\x1b[KReserved 1 GPU(s)" in text
    assert all(len(part) < 80 for part in text.replace("\x1b[K", "\r").split("\r"))


def test_the_queue_says_when(four: QueueHost) -> None:
    """The expected time is known if the holders have an end, and unknown behind a run without one."""
    four.run("reserve", "--gpus", "4", "--duration", "1h")
    four.stand("reserve", "--gpus", "1", "--wait")
    four.stand("run", "--new", "--gpus", "4", "--wait", "--", "true")
    first, second = four.queue()
    assert first["expected"] < second["expected"]
    table = four.run("queue").stdout.splitlines()
    assert table[0].split() == ["POSITION", "ID", "USER", "GPUS", "WAITING", "EXPECTED", "NOTE", "FOR"]
    assert len(table) == 3


def test_waiting_can_be_the_default(four: QueueHost) -> None:
    """`run.wait` makes `run` wait, and --nonblock overrides it."""
    four.stop()
    config = four.folder / "config.toml"
    config.write_text(config.read_text() + "[reserve]\nwait = true\n")
    four.start()
    four.run("reserve", "--gpus", "4")
    four.stand("reserve")
    assert four.run("reserve", "--nonblock").returncode == 1
