"""Reservations by hand: taken, shown, made longer, given back, ended on time; and what is refused."""

import json
import re
import subprocess

import pytest
from support.daemon import Daemon, gpu, until, use
from support.exit_codes import code_of
from support.people import Person

from canhazgpu.service.providers import nvml_errors

NO_USE = "[validated: no actual usage detected]"


@pytest.fixture
def four(host: Daemon) -> Daemon:
    """A host with four idle GPUs."""
    host.place(*(gpu(index, memory_used_mb=45) for index in range(4)))
    until(lambda: "GPU 3: AVAILABLE" in host.status())
    return host


def said(done: "subprocess.CompletedProcess[str]") -> str:
    """What a command that was refused or misused says: one line, and nothing else."""
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.rstrip("\n")


def test_reserve_prints_what_to_copy(four: Daemon) -> None:
    """The GPUs, for how long, and the lines for a shell; --short the GPUs alone, --json everything."""
    done = four.run("reserve", "--gpu-ids", "1,3", "--duration", "4h", "--shell", "bash")
    assert done.stderr == "Reserved 2 GPU(s): [1, 3] for 4h 0m 0s\n"
    assert re.fullmatch(
        "export CUDA_VISIBLE_DEVICES=1,3\n"
        "export CUDA_DEVICE_ORDER=PCI_BUS_ID\n"
        r"export CANHAZGPU_RESERVATION=r\d+-\d+\n",
        done.stdout,
    )
    assert four.run("reserve", "--short").stdout == "0\n"
    facts = json.loads(four.run("reserve", "--json", "--note", "paper", "--user", "nick").stdout)
    assert (facts["gpus"], facts["kind"], facts["note"], facts["label"]) == ([2], "manual", "paper", "nick")
    assert facts["environment"]["NVIDIA_VISIBLE_DEVICES"].startswith("GPU-")
    assert facts["expires_in_s"] == 8 * 3600
    assert re.fullmatch(
        rf"GPU 3: IN USE by root for 0h \dm \d+s \(manual, expires in 3h 5\dm \d+s\) {re.escape(NO_USE)}",
        four.status().splitlines()[3],
    )
    assert "GPU 2: IN USE by root (nick) for" in four.status()


def test_a_label_changes_nothing_about_whose_it_is(four: Daemon) -> None:
    """A reservation with a label is released by its user like any other."""
    assert four.run("reserve", "--user", "nick").returncode == 0
    assert four.run("release").stdout == "Released 1 GPU(s): [0]\n"


def test_what_a_holder_runs_is_validated(four: Daemon, people: list[Person]) -> None:
    """The line of a reserved GPU has the holder's own memory and processes, and names other users.

    The violation has the holder's note.
    """
    alice, bob = people
    assert four.run("reserve", "--gpu-ids", "1", "--note", "thesis", person=alice).returncode == 0
    hers, his = alice.spawn("sleep", "600"), bob.spawn("sleep", "600")
    four.place(gpu(0), gpu(1, use(hers.pid, 8452), memory_used_mb=45), gpu(2), gpu(3))
    until(lambda: "[validated: 8452MB, 1 processes]" in four.status())
    assert four.facts() == []
    four.place(gpu(0), gpu(1, use(hers.pid, 8452), use(his.pid, 1024)), gpu(2), gpu(3))
    shown = rf"also used by user {bob.name} - 1024MB used by PID {his.pid} \(sleep\)"
    until(lambda: re.search(rf"\[validated: 8452MB, 1 processes\], {shown}", four.status()))
    fact = until(four.facts)[0]
    assert (fact["kind"], fact["user"], fact["holder"]) == ("trespass", bob.name, alice.name)
    assert fact["holder_note"] == "thesis"


def test_an_unauthorized_user_makes_it_proper(four: Daemon, people: list[Person]) -> None:
    """A user who is alone on an unreserved GPU gets it by reserving, and the violation is closed."""
    bob = people[1]
    his = bob.spawn("sleep", "600")
    four.place(gpu(0), gpu(1), gpu(2, use(his.pid, 1024)), gpu(3))
    until(four.facts)
    done = four.run("reserve", "--gpus", "1", "--duration", "4h", person=bob)
    assert done.stderr == "Reserved 1 GPU(s): [2] for 4h 0m 0s\n"
    last = until(lambda: [fact for fact in four.facts() if fact["type"].endswith("closed")])[-1]
    assert (last["reason"], last["user"]) == ("reserved", bob.name)
    assert f" {bob.name} " in four.run("violations", "--mine", person=bob).stdout
    assert four.run("violations", "--mine", person=people[0]).stdout.startswith("No such violations")
    assert f"GPU 2: IN USE by {bob.name} for" in four.status()


def test_nobody_takes_a_gpu_that_others_use(four: Daemon, people: list[Person]) -> None:
    """A GPU that others use is refused by its number, with their names, and is not counted as free."""
    alice, bob = people
    his = bob.spawn("sleep", "600")
    four.place(gpu(0), gpu(1), gpu(2, use(his.pid, 1024)), gpu(3, use(his.pid, 1024)))
    until(lambda: "GPU 3: IN USE WITHOUT" in four.status())
    refused = four.run("reserve", "--gpu-ids", "2", person=alice)
    assert refused.returncode == 1
    assert said(refused) == (
        f"Error: Not available: GPU 2 is in use without reservation by {bob.name}"
        " - run 'canhazgpu status' for details"
    )
    refused = four.run("run", "--gpus", "3", "--", "true", person=alice)
    assert refused.returncode == 125
    assert said(refused) == (
        "Error: Not enough GPUs available. Requested: 3, Available: 2"
        " (2 GPUs in use without reservation - run 'canhazgpu status' for details)"
    )
    both = four.run("run", "--gpus", "3", "--", "true")
    assert said(both) == said(refused)  # Root too.


def test_the_numbers_of_a_refusal_are_true(four: Daemon) -> None:
    """A refusal counts reserved, drained and broken GPUs in their own states."""
    four.place(gpu(0), gpu(1), gpu(2), gpu(3, error="GPU_IS_LOST"))
    four.run("reserve", "--gpu-ids", "0")
    four.run("admin", "drain", "1")
    assert said(four.run("reserve", "--gpus", "2")) == (
        "Error: Not enough GPUs available. Requested: 2, Available: 1"
        " (1 GPU reserved, 1 GPU drained, 1 GPU in error: GPU is lost - run 'canhazgpu status' for details)"
        f" ({nvml_errors.remedy('GPU_IS_LOST')})"
    )


def test_an_end_is_exact_and_makes_room(four: Daemon) -> None:
    """A reservation ends at its time, without any request in between."""
    for _ in range(2):  # A second time: nothing of the first is left.
        assert four.run("reserve", "--gpus", "4", "--duration", "1s").returncode == 0
        until(lambda: four.status().count("AVAILABLE (last released 0h 0m") == 4)
    with four.redis() as redis:
        (_, fields) = redis.xrevrange("canhazgpu:{testhost}:ledger", count=1)[0]
    facts = json.loads(fields[b"data"])
    assert facts["reason"] == "expired"
    assert facts["held_s"] == 1


def test_who_stays_beyond_the_end_overstays(four: Daemon, people: list[Person]) -> None:
    """A process that stays after the end of its user's reservation is an overstaying violation."""
    alice = people[0]
    hers = alice.spawn("sleep", "600")
    four.place(gpu(0), gpu(1, use(hers.pid, 1024)), gpu(2), gpu(3))
    until(lambda: "GPU 1: IN USE WITHOUT" in four.status())
    assert four.run("reserve", "--gpu-ids", "1", "--duration", "2s", person=alice).returncode == 0
    fact = until(lambda: [fact for fact in four.facts() if fact["kind"] == "overstaying"])[0]
    assert (fact["user"], fact["gpu"]) == (alice.name, 1)


def test_extend_and_release(four: Daemon) -> None:
    """`extend` and `release` work for all own reservations, for named GPUs, and for part of a reservation."""
    four.run("reserve", "--gpus", "3", "--duration", "1h")
    assert re.fullmatch(
        r"Extended 3 GPU\(s\): \[0, 1, 2\], expires in 2h 5\dm \d+s\n", four.run("extend", "-d", "2h").stdout
    )
    assert four.run("release", "--gpu-ids", "1").stdout == "Released 1 GPU(s): [1]\n"
    assert "GPU 1: AVAILABLE" in until(lambda: "UNKNOWN" not in four.status() and four.status())
    assert four.run("release").stdout == "Released 2 GPU(s): [0, 2]\n"
    assert four.run("release").stdout == "Nothing to release: you hold no manual reservation\n"
    assert four.run("extend").returncode == 1


def test_limits_hold_and_have_exceptions(four: Daemon, people: list[Person]) -> None:
    """The limits on GPUs and time hold, with exceptions for single users."""
    alice, bob = people
    four.stop()
    limits = (
        f'[limits]\nmax_gpus_per_user = 1\nmax_duration = "2h"\n[limits.users.{bob.name}]\nmax_gpus = 2\n'
    )
    config = four.folder / "config.toml"
    config.write_text(config.read_text() + limits)
    four.start()
    assert said(four.run("reserve", "--gpus", "2", person=alice)).startswith("Error: you can hold 1 GPU(s)")
    assert "for 2h 0m 0s" in four.run("reserve", person=alice).stderr  # The default is cut.
    assert four.run("reserve", person=alice).returncode == 1
    refused = four.run("extend", "--duration", "1h", person=alice)
    assert said(refused).startswith("Error: the reservation would exceed your limit of 2h 0m 0s")
    again = four.run("extend", person=alice)  # The default is cut here too.
    assert re.match(r"Extended 1 GPU\(s\): \[0\], expires in (2h 0m 0s|1h 59m \d+s)\n", again.stdout)
    assert four.run("reserve", "--gpus", "2", "--duration", "1h", person=bob).returncode == 0
    assert four.run("reserve", "--duration", "3h", person=bob).returncode == 1


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--gpus", "0", "--", "true"),
        ("run", "--gpus", "-1", "--", "true"),
        ("run", "--gpus", "99999", "--", "true"),
        ("run", "--gpus", "5", "--", "true"),
        ("reserve", "--gpus", "two"),
        ("reserve", "--gpu-ids", "1,1"),
        ("reserve", "--gpu-ids", "99"),
        ("reserve", "--gpu-ids", "a"),
        ("reserve", "--gpu-ids", "1,"),
        ("reserve", "--gpus", "3", "--gpu-ids", "1"),
        ("reserve", "--duration", "abc"),
        ("reserve", "--duration", "-5m"),
        ("reserve", "--duration", "0"),
        ("reserve", "--duration", "0s"),
        ("reserve", "--duration", "1e99h"),
        ("reserve", "--duration", "999999d"),
        ("reserve", "--wait", "0s"),
        ("reserve", "--wait", "--nonblock"),
        ("run", "--timeout", "soon", "--", "true"),
        ("run", "--gpu-ids", "", "--", "true"),
        ("run", "--timeout", "", "--", "true"),
        ("run", "--timeout=", "--", "true"),
        ("run", "--wait=", "--", "true"),
        ("reserve", "--gpu-ids", ""),
        ("reserve", "--gpu-ids", " "),
        ("reserve", "--duration", ""),
        ("reserve", "--wait="),
        ("reserve", "--user", ""),
        ("reserve", "--note", ""),
        ("reserve", "--note", b"\xff".decode("utf-8", "surrogateescape")),
        ("release", "--gpu-ids", ""),
        ("release", "--gpu-ids", "0", "--all"),
        ("extend", "--gpu-ids", ""),
        ("extend", "--duration", ""),
        ("admin", "--gpu-ids", ""),
        ("admin", "init", "--gpu-ids", ""),
        ("admin", "drain", ""),
        ("admin", "drain", "1", "--reason", ""),
        ("admin", "release", "--user", ""),
        ("run", "--gpus", "1"),
        ("run", "--gpus", "1", "--"),
        ("run", "--gpus", "1", "python", "train.py"),
        ("run", "--gpus", "1", "echo", "--", "hi"),
        ("reserve", "--user", "\tnick"),
        ("release", "--gpu-ids", "x"),
        ("extend", "--duration", "-1h"),
        ("admin",),
        ("admin", "init", "--gpus", "9"),
        ("admin", "drain", "7"),
        ("admin", "release"),
        ("status", "--json", "--watch"),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(lasting_host: Daemon, words: tuple[str, ...]) -> None:
    """Bad input is one line and exit code 2, and changes nothing."""
    events = "canhazgpu:{testhost}:events"
    with lasting_host.redis() as redis:
        lasting_host.run("reserve", "--gpu-ids", "3")  # So that there is something to lose.
        before = redis.xlen(events)
        done = lasting_host.run(*words)
        assert (done.returncode, redis.xlen(events)) == (code_of(words, 2), before)
    assert said(done).startswith("Error: ")


def test_administrators_end_what_is_anybodys(four: Daemon, people: list[Person]) -> None:
    """Administrators end reservations by GPU, by user, or all; users cannot."""
    alice, bob = people
    four.run("reserve", "--gpus", "2", person=alice)
    four.run("reserve", "--gpus", "1", person=bob)
    assert said(four.run("admin", "release", "--all", person=bob)).startswith("Error: only administrators")
    assert four.run("admin", "release", "--gpu-ids", "0").stdout == "Released 1 GPU(s): [0]\n"
    assert four.run("admin", "release", "--user", bob.name).stdout == "Released 1 GPU(s): [2]\n"
    assert four.run("admin", "release", "--all").stdout == "Released 1 GPU(s): [1]\n"
    assert (
        four.run("admin", "release", "--all").stdout
        == "Nothing to release: there is no matching reservation\n"
    )
    rows = json.loads(four.run("events", "--json").stdout.replace("\n", ",").join("[]").replace(",]", "]"))
    mine = [row["data"] for row in rows if row["type"] == "canhazgpu.reservation.released"]
    assert {(row["reason"], row["by"]) for row in mine} == {("admin", "root")}


def test_gpus_are_drained_and_left_out(four: Daemon) -> None:
    """A drained GPU is not allocated but keeps its holder; an unmanaged one is still shown."""
    four.run("reserve", "--gpu-ids", "1")
    assert four.run("admin", "drain", "1,2", "--reason", "ECC").stdout == "Drained 2 GPU(s): [1, 2] (ECC)\n"
    assert "GPU 2: DRAINED (ECC) [validated: 45MB used]" in four.status()
    assert f"{NO_USE} (draining: ECC)" in four.status()
    assert four.run("admin", "undrain", "1,2").stdout == "Undrained 2 GPU(s): [1, 2]\n"
    assert said(four.run("admin", "--gpus", "1")).startswith("Error: reserved: GPU 1 by root")
    assert four.run("admin", "--gpus", "1", "--force").stdout == (
        "Managed: 1 GPU(s): [0]\nReleased by force: 1 GPU(s): [1]\n"
    )
    assert "GPU 3: NOT MANAGED" in four.status()
    assert "there is no GPU 4, 5, 6 and 92 more: this host has 4" in four.run("admin", "--gpus", "99").stderr
    assert four.run("reserve", "--gpu-ids", "3").returncode == 2
    assert four.run("admin", "init").stdout == "Managed: 4 GPU(s): [0, 1, 2, 3]\n"
