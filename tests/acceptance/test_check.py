"""`canhazgpu check`: whether the GPUs that a program would see are reserved by its user now."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from support.daemon import COMMAND, PATIENCE, Daemon, until
from support.eventually import slowness
from support.people import Person

from canhazgpu.client import Client, Refused, Unreachable
from canhazgpu.client import check as check_from_python

VARIABLE = "CUDA_VISIBLE_DEVICES"
PATIENT = """
from canhazgpu.cli import main
from canhazgpu.cli.reservations import check
check.PROMPT_PATIENCE = 60.0
main.main()
"""


@pytest.fixture
def free(lasting_host: Daemon) -> Iterator[Daemon]:
    """A host whose GPUs are all free."""
    until(lambda: lasting_host.status().count("AVAILABLE") == 4)
    yield lasting_host
    lasting_host.run("admin", "release", "--all")


def check(
    host: Daemon, listed: str | None, *words: str, person: Person | None = None, **more: str
) -> "subprocess.CompletedProcess[str]":
    """Run `check` with this value of the variable, or without it."""
    environment = {name: value for name, value in host.environment.items() if name != VARIABLE} | more
    environment |= {} if listed is None else {VARIABLE: listed}
    command = person.command(*COMMAND, "check", *words) if person else [*COMMAND, "check", *words]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE
    )


def prompt(host: Daemon, listed: str | None) -> "subprocess.CompletedProcess[str]":
    """Run `check --short`, which waits for the service however busy the machine is."""
    environment = {name: value for name, value in host.environment.items() if name != VARIABLE}
    environment |= {} if listed is None else {VARIABLE: listed}
    words = [sys.executable, "-c", PATIENT, "check", "--short"]
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)


def test_the_sentence_and_the_code(free: Daemon, people: list[Person]) -> None:
    """One line: what one holds and for how long, or who holds what one would use, and what to do about it."""
    alice, bob = people
    assert free.run("reserve", "--gpu-ids", "0,2", "--duration", "4h", person=alice).returncode == 0
    assert free.run("reserve", "--gpu-ids", "1", person=bob).returncode == 0
    mine = check(free, "2,0", person=alice)
    assert (mine.returncode, mine.stderr) == (0, "")
    assert mine.stdout.startswith("GPUs 0,2 are reserved by you for 3h 59m ")
    others = f"GPU 1 is reserved by {bob.name}"
    every = f"{others}, GPU 3 is not reserved; CUDA_VISIBLE_DEVICES is not set, so every GPU is visible"
    for listed, why in (("1,0", others), (None, every)):
        said = f"{why}: you hold GPUs 0,2, `canhazgpu env` prints how to use them"
        done = check(free, listed, person=alice)
        assert (done.returncode, done.stdout, done.stderr) == (4, f"{said}\n", "")
    nobodys = check(free, "3")
    assert nobodys.stdout == "GPU 3 is not reserved: `canhazgpu reserve` reserves GPUs\n"


@pytest.mark.parametrize(
    ("listed", "why"),
    [
        ("", "CUDA_VISIBLE_DEVICES is empty"),
        ("-1", "CUDA_VISIBLE_DEVICES does not begin with a GPU of this host"),
        ("3,3", "CUDA_VISIBLE_DEVICES names GPU 3 twice, so CUDA shows none"),
    ],
)
def test_no_gpu_is_visible(free: Daemon, listed: str, why: str) -> None:
    """A program that sees no GPU uses none of others: that is a yes."""
    done = check(free, listed)
    assert (done.returncode, done.stdout) == (0, f"No GPU is visible: {why}\n")


def test_uuids_and_what_follows_a_mistake(free: Daemon) -> None:
    """The GPUs are named as CUDA understands them; those that it ignores do not count."""
    uuids = [row["uuid"] for row in json.loads(free.run("status", "--json").stdout)]
    assert free.run("reserve", "--gpu-ids", "1").returncode == 0
    assert check(free, uuids[1][:12]).returncode == 0
    assert check(free, f"{uuids[1]},nothing,0").returncode == 0
    assert check(free, f"{uuids[1]},{uuids[0]}").returncode == 4


def test_other_outputs(free: Daemon) -> None:
    """--quiet says nothing, --json everything, --short what fits into a prompt."""
    assert free.run("reserve", "--gpu-ids", "0,2", "--duration", "50d").returncode == 0
    for listed, code, short in (
        ("0,2", 0, "gpu:0,2 49d23h\n"),
        (None, 4, "gpu:0,2 49d23h !1,3\n"),
        ("3", 4, "gpu:!3\n"),
        ("", 0, ""),
    ):
        quiet = check(free, listed, "--quiet")
        assert (quiet.returncode, quiet.stdout, quiet.stderr) == (code, "", "")
        brief = prompt(free, listed)
        assert (brief.returncode, brief.stdout, brief.stderr) == (code, short, "")
    done = check(free, "3,0", "--json")
    facts = json.loads(done.stdout)
    assert (done.returncode, facts["reserved"], facts["gpus"], facts["missing"]) == (4, False, [3, 0], [3])
    assert [(row["gpu_id"], row["own"]) for row in facts["visible"]] == [(3, False), (0, True)]
    assert facts["visible"][1]["reservation"]["gpus"] == [0, 2]
    assert 49 * 24 * 3600 < facts["expires_in_s"] <= 50 * 24 * 3600


def test_a_command_runs_only_on_reserved_gpus(free: Daemon) -> None:
    """--exec becomes the command, whose environment and code are unchanged; else it reports 125, as `run`."""
    assert free.run("reserve", "--gpu-ids", "1").returncode == 0
    script = f"echo $$ ${VARIABLE}; exit 7"
    with subprocess.Popen(
        [*COMMAND, "check", "--exec", "--", "sh", "-c", script],
        env={**free.environment, VARIABLE: "1"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stdout.read() == f"{process.pid} 1\n"
    assert process.returncode == 7
    refused = check(free, "2", "--exec", "--", "echo", "ran")
    assert (refused.returncode, refused.stdout) == (125, "")
    assert refused.stderr.startswith("Error: not reserved: GPU 2 is not reserved: you hold GPU 1, ")
    silent = check(free, "2", "--exec", "--quiet", "--", "echo", "ran")
    assert (silent.returncode, silent.stdout, silent.stderr) == (125, "", "")
    assert check(free, "1", "--exec", "--", "no-such-command").returncode == 127


@pytest.mark.parametrize(
    "words",
    [
        ("--exec",),
        ("--", "true"),
        ("true",),
        ("--exec", "true"),
        ("--json", "--short"),
        ("--exec", "--json", "--", "true"),
    ],
)
def test_options_that_do_not_fit(free: Daemon, words: tuple[str, ...]) -> None:
    """A command without --exec, --exec without a command, and two outputs at once are usage errors."""
    done = check(free, "", *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_whose_reservation_counts(free: Daemon, people: list[Person]) -> None:
    """The kernel says who asks: a name in the environment changes nothing, and `run` counts as any."""
    alice, bob = people
    held = free.run("reserve", "--gpu-ids", "1", "--short", person=alice)
    assert held.stdout == "1\n"
    assert check(free, "1", person=alice).returncode == 0
    assert check(free, "1", person=bob, USER=alice.name, SUDO_UID=str(alice.uid)).returncode == 4
    assert check(free, "1").returncode == 4  # Root is no exception.
    inner = ["sh", "-c", f"exec {' '.join(COMMAND)} check"]
    done = free.run("run", "--gpus", "1", "--", *inner, person=bob)
    assert (done.returncode, done.stdout.count("reserved by you\n")) == (0, 1), done


def test_sudo_is_the_person_who_logged_in(free: Daemon, people: list[Person]) -> None:
    """What a login reserved with sudo is its own with sudo, and not another login's."""
    one, two = (person.sudo(*COMMAND, "check", "--quiet") for person in people)
    reserve = people[0].sudo(*COMMAND, "reserve", "--gpu-ids", "3")
    environment = {**free.environment, VARIABLE: "3"}
    assert subprocess.run(reserve, env=environment, check=False, capture_output=True).returncode == 0
    codes = [subprocess.run(words, env=environment, check=False).returncode for words in (one, two)]
    assert codes == [0, 4]


def test_no_service(free: Daemon) -> None:
    """Code 3, and one line; a prompt shows that it does not know, and its terminal stays clean."""
    away = str(free.folder / "away")
    done = check(free, "0", CANHAZGPU_SOCKET=away)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1)
    brief = check(free, "0", "--short", CANHAZGPU_SOCKET=away)
    assert (brief.returncode, brief.stdout, brief.stderr) == (3, "gpu:?\n", "")
    refused = check(free, "0", "--exec", "--", "true", CANHAZGPU_SOCKET=away)
    assert (refused.returncode, refused.stderr[:19]) == (125, "Error: no service: ")


def test_a_prompt_does_not_wait_for_a_stopped_service(host: Daemon) -> None:
    """--short gives up after half a second."""
    assert host.process
    host.process.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        done = check(host, "0", "--short")
        assert (done.returncode, done.stdout) == (3, "gpu:?\n")
        assert time.monotonic() - began < 8 * slowness()  # Others wait ten seconds.
    finally:
        host.process.send_signal(signal.SIGCONT)


def test_the_last_known_state_counts_while_redis_is_silent(host: Daemon) -> None:
    """A reservation is promised also then: the answer is the same, with a warning."""
    assert host.run("reserve").returncode == 0
    redis = host.redis().info("server")["process_id"]
    os.kill(redis, signal.SIGSTOP)
    try:
        done = check(host, "0")
        assert (done.returncode, done.stdout[:28]) == (0, "GPU 0 is reserved by you for")
        assert done.stderr.startswith("Warning: last known ")
        quiet = check(host, "0", "--quiet")
        assert (quiet.returncode, quiet.stderr) == (0, "")
    finally:
        os.kill(redis, signal.SIGCONT)


def test_an_unmanaged_gpu_is_ignored(free: Daemon) -> None:
    """Users cannot reserve it, so nobody misses its reservation."""
    assert free.run("admin", "init", "--gpu-ids", "0-2").returncode == 0
    done = check(free, "3")
    assert free.run("admin", "init").returncode == 0
    assert (done.returncode, done.stdout) == (0, "GPU 3 is not managed\n")


def test_from_python(free: Daemon) -> None:
    """`client.check` is true or false, says which GPUs are missing, and has the errors of the client."""
    socket = str(free.folder / "s")
    client = Client(socket)
    assert free.run("reserve", "--gpu-ids", "1").returncode == 0
    assert check_from_python({VARIABLE: "1"}, client=client)
    found = check_from_python({VARIABLE: "3,1"}, client=client)
    assert (bool(found), found.gpus, found.missing) == (False, [3, 1], [3])
    code = "from canhazgpu.client import check; print(check().gpus)"
    environment = {**free.environment, VARIABLE: "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[1]\n"
    with pytest.raises((Unreachable, Refused)):
        check_from_python(client=Client(f"{socket}-away"))
