"""A reservation that its user cannot learn of is not kept: its GPUs would be held for nobody."""

import os
import subprocess

import pytest
from support.daemon import COMMAND, Daemon

FORMS = ["", " --short", " --json", " --wait"]


def in_a_shell(host: Daemon, line: str, output: int = subprocess.PIPE) -> "subprocess.CompletedProcess[str]":
    """Run a line of bash in which `$chg` is the command."""
    return subprocess.run(
        ["bash", "-c", line],
        env={**host.environment, "chg": " ".join(COMMAND)},
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )


def given_back(host: Daemon, done: "subprocess.CompletedProcess[str]") -> None:
    """Exit code 1, one line that says so, and a GPU that nobody holds."""
    assert (done.returncode, done.stdout or "", done.stderr.count("\n")) == (1, "", 1), done
    assert done.stderr.startswith("Error: the output cannot be written: ")
    assert host.run("release").stdout.startswith("Nothing to release")


@pytest.mark.parametrize("form", FORMS)
def test_what_cannot_be_written_is_given_back(host: Daemon, form: str) -> None:
    """A reservation that cannot be printed, as on a full disk, is released; others stay."""
    done = in_a_shell(host, f"exec $chg reserve{form} >/dev/full")
    assert "was released" in done.stderr
    assert "No space left on device" in done.stderr
    given_back(host, done)


def test_a_reader_that_has_gone(host: Daemon) -> None:
    """A reservation whose output pipe is closed is released."""
    reader, writer = os.pipe()
    os.close(reader)
    done = in_a_shell(host, "exec $chg reserve --short", output=writer)
    os.close(writer)
    assert "was released" in done.stderr
    given_back(host, done)


def test_a_closed_output(host: Daemon) -> None:
    """With a closed standard output, nothing is reserved."""
    for closed in (">&-", ">&- <&-"):
        done = in_a_shell(host, f"exec $chg reserve --short {closed}")
        assert "nothing was reserved" in done.stderr
        given_back(host, done)


def test_only_what_was_not_told_of_is_given_back(host: Daemon) -> None:
    """Only the reservation that was not printed is released."""
    host.place("[[gpus]]\nindex = 0\n[[gpus]]\nindex = 1\n")
    assert in_a_shell(host, "$chg reserve --gpu-ids 0 --short").stdout == "0\n"
    assert in_a_shell(host, "$chg reserve --gpus 1 --wait 20s >/dev/full").returncode == 1
    assert host.run("release").stdout == "Released 1 GPU(s): [0]\n"


def test_a_command_runs_without_an_output(host: Daemon) -> None:
    """`run` works with a closed output, because the output belongs to the command."""
    assert in_a_shell(host, "exec $chg run --gpus 1 -- true >&-").returncode == 0
