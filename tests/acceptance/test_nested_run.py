"""`run` within a reservation uses the GPUs of that one, and never waits for itself."""

import re
import subprocess

import pytest
from support.daemon import COMMAND, Daemon, gpu, until
from support.people import Person

CHG = " ".join(COMMAND)
SHOW = "echo $CUDA_VISIBLE_DEVICES $CANHAZGPU_RESERVATION"


@pytest.fixture
def three(host: Daemon) -> Daemon:
    """A host with three idle GPUs."""
    host.place(*(gpu(index, memory_used_mb=45) for index in range(3)))
    until(lambda: "GPU 2: AVAILABLE" in host.status())
    return host


def within(
    host: Daemon, options: str, script: str, person: Person | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a script under `run` with these options."""
    return host.run("run", *options.split(), "--", "sh", "-c", script, person=person)


def test_a_run_within_a_run_uses_its_gpus(three: Daemon) -> None:
    """All of them, or as many or which it asks for; nothing else is reserved, and nothing is said."""
    script = (
        f"{SHOW}; for o in '' '--gpus 1' '--gpu-ids 2' '--gpus 2'; do {CHG} run $o -- sh -c '{SHOW}'; done"
    )
    done = within(three, "--gpu-ids 0,2", script)
    assert (done.returncode, done.stderr) == (0, ""), done
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == ["0,2", "0,2", "0", "2", "0,2"]
    assert len({row[1] for row in rows}) == 1
    assert three.status().count("never reserved") == 1  # Those of the outer run only, once.


def test_runs_side_by_side_get_different_gpus(three: Daemon) -> None:
    """Each of two nested runs that ask for one GPU gets one of its own."""
    one = f"{CHG} run --gpus 1 -- sh -c 'echo $CUDA_VISIBLE_DEVICES; cat >/dev/null'"
    done = subprocess.Popen(
        [*COMMAND, "run", "--gpus", "2", "--", "sh", "-c", f"exec 3<&0; {one} <&3 & {one} <&3 & wait"],
        env=three.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert done.stdout
    assert {done.stdout.readline(), done.stdout.readline()} == {b"0\n", b"1\n"}
    done.communicate(timeout=60)


def test_more_than_the_outer_run_has_is_refused(three: Daemon) -> None:
    """At once, even if it would wait, with the remedy; `--new` reserves others."""
    script = f"{CHG} run --gpus 2 --wait -- true; echo $?; {CHG} run --gpu-ids 1 -- true; echo $?"
    done = within(three, "--gpu-ids 0", script)
    assert done.stdout == "125\n125\n"
    assert [("--new" in line, "has 1 GPU(s): [0]" in line) for line in done.stderr.splitlines()] == [
        (True, True)
    ] * 2
    until(lambda: three.status().count("AVAILABLE") == 3)  # The run before has been released.
    done = within(three, "--gpu-ids 0", f"{CHG} run --new --gpus 2 -- sh -c '{SHOW}'")
    assert done.stdout.startswith("1,2 r")


def test_a_run_never_waits_for_itself(three: Daemon) -> None:
    """What only its own end would free is refused, also without its variables or nested twice."""
    for line in (
        f"{CHG} run --new --gpus 3 --wait -- true",
        f"env -u CANHAZGPU_RESERVATION {CHG} run --gpus 3 --wait -- true",
        f"{CHG} run --new --gpus 2 -- {CHG} run --new --gpus 1 --wait -- true",
        f"{CHG} reserve --gpu-ids 0 --wait",
    ):
        until(lambda: three.status().count("AVAILABLE") == 3)  # The run before has been released.
        done = within(three, "--gpu-ids 0", f"{line}; echo $?")
        assert done.stdout in {"125\n", "1\n"}, (line, done)
        assert "wait for itself" in done.stderr, (line, done)


def test_the_variable_proves_nothing(three: Daemon, people: list[Person]) -> None:
    """Who names another's reservation, or one that has ended, gets GPUs of their own."""
    alice, bob = people
    assert three.run("reserve", "--gpu-ids", "0", person=alice).returncode == 0
    named = three.run("env", "--shell", "bash", person=alice).stdout
    script = f"{named}{CHG} run -- sh -c '{SHOW}'"
    words = bob.command("sh", "-c", script)
    done = subprocess.run(words, env=three.environment, capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == "1"
    assert done.stderr == ""
    three.run("release", person=alice)
    words = alice.command("sh", "-c", script)
    done = subprocess.run(words, env=three.environment, capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == "2"  # The least recently released.


def test_a_manual_reservation_is_used_if_it_fits(three: Daemon) -> None:
    """The line on standard error says so; what does not fit, `--new` and `--timeout` reserve others."""
    assert three.run("reserve", "--gpu-ids", "1", "--duration", "1h").returncode == 0
    done = within(three, "", SHOW)
    assert done.stdout.startswith("1 r")
    assert done.stderr.startswith("Using 1 GPU(s): [1] of your reservation r")
    assert re.search(r"which expires in (0h )?5\dm", done.stderr), done.stderr
    assert "--new reserves others" in done.stderr
    for options in ("--new", "--timeout 1h", "--gpu-ids 0", "--gpus 2"):
        done = within(three, options, SHOW)
        assert (done.stderr, "1" in done.stdout.split()[0].split(",")) == ("", False), done
        until(lambda: three.status().count("AVAILABLE") == 2)
    assert within(three, "--note mine", SHOW).stderr.endswith("--note and --user are only for new ones\n")


def test_of_several_manual_reservations_the_free_one_is_used(three: Daemon) -> None:
    """A second run gets the reservation that the first one does not use."""
    for gpus in ("0", "2"):
        assert three.run("reserve", "--gpu-ids", gpus).returncode == 0
    words = [*COMMAND, "run", "--", "sh", "-c", "echo $CUDA_VISIBLE_DEVICES; cat"]
    first = subprocess.Popen(
        words, env=three.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert first.stdout
    assert first.stdout.readline() == b"0\n"
    assert within(three, "", SHOW).stdout.startswith("2 ")
    first.communicate(timeout=60)
    until(lambda: within(three, "", SHOW).stdout.startswith("0 "))


def test_a_shell_with_the_variables_is_within_the_reservation(three: Daemon) -> None:
    """After `eval`, a run uses the reservation of its shell, all of it; more is refused."""
    script = (
        f'code=$({CHG} reserve --gpus 2 2>/dev/null) && eval "$code" || exit 1;'
        f" {CHG} run -- sh -c '{SHOW}'; {CHG} run --gpus 3 -- true; echo $?"
    )
    done = subprocess.run(
        ["bash", "-c", script], env=three.environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("0,1 r")
    assert done.stdout.endswith("\n125\n")
    assert "Using 2 GPU(s): [0, 1] of your reservation" in done.stderr
    assert "which has 2 GPU(s): [0, 1] (--new reserves others)" in done.stderr
