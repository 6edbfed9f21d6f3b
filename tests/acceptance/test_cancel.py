"""`cancel`: requests leave the queue from another terminal, by their user or by an administrator only."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.daemon import PATIENCE
from support.people import Person
from support.waiters import QueueHost, four_gpus

from canhazgpu.cli.reservations.cancel import EPILOG
from canhazgpu.client import Client

OWN = "the request was cancelled from another terminal"
GONE = "the request is no longer in the queue (submit it again)"
BY_ROOT = (
    "the request was removed from the queue by root, an administrator (ask them before you submit it again)"
)


@pytest.fixture
def full(folder: Path) -> Iterator[QueueHost]:
    """A host whose four GPUs are all reserved."""
    with four_gpus(folder) as host:
        assert host.run("reserve", "--gpus", "4").returncode == 0
        yield host


def end(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Return the exit code of a command that waited, and its last line on standard error."""
    out, err = process.communicate(timeout=PATIENCE)
    assert out == ""
    return process.returncode, err.splitlines()[-1]


def left(host: QueueHost) -> list[tuple[Any, Any]]:
    """Return why requests left the queue, and by whom."""
    done = host.run("events", "--type", "request.left", "--json")
    assert done.returncode == 0, done
    found = [json.loads(line)["data"] for line in done.stdout.splitlines()]
    return [(data["reason"], data.get("by")) for data in found]


def test_the_only_request_is_meant(full: QueueHost) -> None:
    """Without an id; the command that waits says what happened and ends, and the event says who did it."""
    waiting = full.stand("reserve", "--gpus", "2", "--wait", "--note", "paper")
    (row,) = full.queue()
    done = full.run("cancel")
    said = f"Cancelled {row['id']} of root, which waited for 2 GPU(s) [paper]\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, said, "")
    assert end(waiting) == (1, f"Error: {OWN}")
    assert full.queue() == []
    assert left(full) == [("cancelled", "root")]
    again = full.run("cancel")
    assert (again.returncode, again.stdout) == (0, "Nothing to cancel: you have no request in the queue\n")


def test_a_run_that_waits_ends_with_its_own_code(full: QueueHost) -> None:
    """The command is not started, and the code is that of `run` for a refusal."""
    waiting = full.stand("run", "--new", "--wait", "--", "echo", "started")
    assert full.run("cancel").returncode == 0
    assert end(waiting) == (125, f"Error: {OWN}")


def test_several_must_be_named(full: QueueHost) -> None:
    """By an id, by the start of one that fits only one, or all of them."""
    waiting = [full.stand("reserve", "--gpu-ids", str(index), "--wait") for index in range(3)]
    ids = [row["id"] for row in full.queue()]
    done = full.run("cancel")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error: 3 requests are waiting: {', '.join(ids)} (name one, or use --all)\n"
    done = full.run("cancel", "r1")
    assert (done.returncode, done.stderr.startswith("Error: 3 requests begin with r1")) == (1, True)
    (row,) = json.loads(full.run("cancel", ids[1], "--json").stdout)
    assert (row["id"], row["gpus"], row["kind"]) == (ids[1], [1], "manual")
    assert end(waiting[1])[0] == 1
    assert [one["id"] for one in full.queue()] == [ids[0], ids[2]]
    assert full.run("cancel", "--all").stdout.count("Cancelled") == 2
    assert [end(waiting[number])[0] for number in (0, 2)] == [1, 1]


def test_a_position_is_no_id(full: QueueHost) -> None:
    """Positions change while one types, so the line says what to type now, and nothing is cancelled."""
    for _ in range(2):
        full.stand("reserve", "--gpus", "4", "--wait")
    ids = [row["id"] for row in full.queue()]
    done = full.run("cancel", "2")
    said = f"2 is a position, which can change; it is currently that of root: canhazgpu cancel {ids[1]}"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"Error: {said}\n")
    assert full.run("cancel", "1", "--user", "root").stderr.endswith(f"cancel {ids[0]} --user root\n")
    assert "7 is neither an id nor a position in the queue" in full.run("cancel", "7").stderr
    assert [row["id"] for row in full.queue()] == ids
    assert full.run(*said.partition("canhazgpu ")[2].split()).returncode == 0


def test_only_ones_own(full: QueueHost, people: list[Person]) -> None:
    """The kernel says who asks: nobody else's request is cancelled, by whatever name; nothing changes."""
    alice, bob = people
    full.stand("reserve", "--wait", person=alice)
    (row,) = full.queue()
    for words in ((row["id"],), (row["id"][:3],), ("--user", alice.name), ("--user", "root", "--all")):
        done = full.run("cancel", *words, person=bob)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done
    assert full.run("cancel", "--all", person=bob).stdout.startswith("Nothing to cancel")
    assert full.run("cancel", "--user", bob.name, "--all", person=bob).stdout.startswith("Nothing to cancel")
    assert [one["id"] for one in full.queue()] == [row["id"]]
    mine = full.run("cancel", row["id"])  # Root says whose.
    assert (mine.returncode, "administrators add --user" in mine.stderr) == (1, True)


def test_an_administrator_removes_the_request_of_another(full: QueueHost, people: list[Person]) -> None:
    """With --user; whoever waits behind moves up, and the waiting command says who it was."""
    alice, bob = people
    first = full.stand("reserve", "--gpus", "4", "--wait", person=alice)
    second = full.stand("reserve", "--gpus", "1", "--wait", person=bob)
    assert full.run("cancel", "--user", alice.name).returncode == 0
    assert end(first) == (1, f"Error: {BY_ROOT}")
    assert [row["position"] for row in full.queue()] == [1]
    assert left(full) == [("cancelled", "root")]
    assert full.run("cancel", "--user", "nosuchuser").stderr == "Error: there is no such user on this host\n"
    full.run("release", "--all")
    assert second.wait(60) == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("r99-9",), 1, "no request r99-9 is in the queue (`canhazgpu queue` lists them)"),
        (("",), 2, "an id is empty or too long"),
        (("r1", "--all"), 2, "ids and --all cannot be used together"),
        (("x" * 70,), 2, "an id is empty or too long"),
    ],
)
def test_what_cannot_be_cancelled_is_named(
    full: QueueHost, words: tuple[str, ...], code: int, said: str
) -> None:
    """One line, and nothing on standard output."""
    done = full.run("cancel", *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1), done
    assert said in done.stderr


def test_the_examples_of_the_help(full: QueueHost, people: list[Person]) -> None:
    """Each cancels what it says, where such a request waits."""
    alice = people[0]
    examples = [line.strip().partition("  #")[0] for line in EPILOG.splitlines() if " canhazgpu" in line]
    examples = [line for line in examples if " b1796" not in line]  # tests/acceptance/test_bookings.py
    assert len(examples) == 4
    for line in examples:
        person = alice if "--user" in line else None
        waiting = full.stand("reserve", "--wait", person=person)
        (row,) = full.queue()
        names = {"bob": alice.name, "r1796017013625-8": row["id"]}
        done = full.run(*(names.get(word, word) for word in line.split()[1:]))
        assert (done.returncode, "Cancelled" in done.stdout) == (0, True), (line, done)
        assert end(waiting)[0] == 1


def test_the_queue_shows_ids_and_notes(full: QueueHost) -> None:
    """The table has what `cancel` needs, and the note that others can see."""
    full.stand("reserve", "--wait", "--note", "camera ready")
    (row,) = full.queue()
    header, line = full.run("queue").stdout.splitlines()
    assert header.split()[:3] == ["POSITION", "ID", "USER"]
    assert line.split()[1] == row["id"]
    assert "  camera ready  " in line


def test_an_answer_that_was_lost_can_be_asked_for_again(full: QueueHost) -> None:
    """The same operation gives the same answer, and cancels nothing that came later."""
    full.stand("reserve", "--wait")
    service, order = Client(str(full.folder / "s")), {"operation": "once", "all": True}
    first = service.post("/v1/queue/cancel", order)
    assert len(first) == 1
    full.stand("reserve", "--wait")
    assert service.post("/v1/queue/cancel", order) == first
    assert len(full.queue()) == 1


def test_a_request_of_before_a_restart_is_known_to_be_gone(full: QueueHost) -> None:
    """A client that comes back after its request was cancelled, and the service restarted, ends too."""
    waiting = full.stand("reserve", "--wait")
    waiting.send_signal(signal.SIGSTOP)
    assert full.run("cancel").returncode == 0
    full.stop()
    full.start()
    waiting.send_signal(signal.SIGCONT)
    code, said = end(waiting)
    assert (code, said) in ((1, f"Error: {OWN}"), (1, "Error: " + GONE))
