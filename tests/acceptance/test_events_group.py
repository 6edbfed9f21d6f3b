"""`events --follow --group`: a durable consumer from a shell, on a real service."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from support.acl import READER, serving
from support.daemon import COMMAND, PATIENCE, Daemon, until
from support.shell_consumer import (
    CREATED,
    RELEASED,
    WORDS,
    acknowledged,
    consuming,
    happen,
    kinds,
    pending,
    script,
)

from canhazgpu.cli.notices.consume import FINISHING
from canhazgpu.events import read_dead_letters
from canhazgpu.events.envelope import Event
from canhazgpu.events.redis_client.keys import Keys


def test_it_continues_where_it_stopped(host: Daemon) -> None:
    """Events from before come first, as in `events --json`; a restart repeats none and misses none."""
    happen(host)
    with consuming(host, "--json") as consumer:
        consumer.until(lambda: len(consumer.lines()) == 2)
        happen(host)
        consumer.until(lambda: len(consumer.lines()) == 4)
        consumer.until(lambda: acknowledged(host))
        assert consumer.end() == 0
    happen(host)
    with consuming(host, "--json") as consumer:
        consumer.until(lambda: len(consumer.lines()) == 6)
        consumer.until(lambda: acknowledged(host))
        assert consumer.end(signal.SIGINT) == 130
    plain = host.run("events", "--json", "--type", "reservation").stdout.splitlines()
    assert consumer.lines() == [json.loads(line) for line in plain]
    assert consumer.errors.read_text() == ""


def test_it_prints_text_and_outlives_a_restart_of_the_service(host: Daemon) -> None:
    """Without --json the lines are those of `events`; while Redis is away, it says so once and waits."""
    with consuming(host) as consumer:
        happen(host)
        consumer.until(lambda: consumer.output.read_text().count("\n") == 2)
        host.stop()
        consumer.until(lambda: "trying again" in consumer.errors.read_text())
        host.start()
        happen(host)
        consumer.until(lambda: consumer.output.read_text().count("\n") == 4)
        consumer.until(lambda: acknowledged(host))
    assert consumer.output.read_text() == host.run("events", "--type", "reservation").stdout
    assert all(
        line.startswith("canhazgpu: Redis does not") for line in consumer.errors.read_text().splitlines()
    )


def test_a_program_gets_each_event(host: Daemon) -> None:
    """As one line of JSON on its standard input; nothing in it is ever code for the shell."""
    note = "$(touch owned) `touch owned`; touch owned"
    happen(host, "--note", note)
    command = f"cat >> '{host.folder}/taken file'; echo \"$# $0\""
    with consuming(host, "--exec", command) as consumer:
        consumer.until(lambda: acknowledged(host))
        assert consumer.end() == 0
    plain = host.run("events", "--json", "--type", "reservation").stdout
    assert (host.folder / "taken file").read_text() == plain
    assert json.loads(plain.splitlines()[0])["data"]["note"] == note
    assert not (host.folder / "owned").exists()
    assert consumer.output.read_text() == "0 /bin/sh\n" * 2


def test_a_program_that_reads_nothing_is_no_failure(host: Daemon) -> None:
    """Its exit status alone counts."""
    happen(host, "--note", "x" * 200)
    with consuming(host, "--exec", "exec 0<&-; true") as consumer:
        consumer.until(lambda: acknowledged(host))
        assert consumer.end() == 0
    assert consumer.errors.read_text() == ""


def test_a_program_that_fails_is_run_again_and_then_the_event_is_set_aside(host: Daemon) -> None:
    """The next event waits for it; the dead letter has the event and the reason."""
    happen(host)
    program = script(host, "tee -a tried | grep -q released || exit 3")
    letters = host.folder / "dead-letters"
    words = ("--exec", program, "--attempts", "2", "--dead-letters", str(letters))
    with consuming(host, *words) as consumer:
        consumer.until(lambda: acknowledged(host))
        assert consumer.end() == 0
    tried = [json.loads(line) for line in (host.folder / "tried").read_text().splitlines()]
    assert kinds(tried) == [CREATED, CREATED, RELEASED]
    (letter,) = read_dead_letters(letters)
    assert letter.reason == "ProgramFailed: the program exited with status 3"
    assert letter.event is not None
    assert letter.event.type == CREATED
    said = consumer.errors.read_text().splitlines()
    assert len(said) == 2
    assert "trying again in 1 s" in said[0]
    assert "becomes a dead letter" in said[1]


def test_without_a_file_for_dead_letters_it_stops(host: Daemon) -> None:
    """It says in one line what to do; the event stays pending, and comes first at the next start."""
    happen(host)
    with consuming(host, "--exec", "exit 3", "--attempts", "1") as consumer:
        assert consumer.process.wait(PATIENCE) == 1
    (line,) = consumer.errors.read_text().splitlines()
    assert line.startswith("Error: the entry ")
    assert "was given up" in line
    assert line.endswith("--dead-letters FILE would set such events aside")
    with consuming(host, "--json") as consumer:
        consumer.until(lambda: kinds(consumer.lines()) == [CREATED, RELEASED])


def test_a_program_can_ask_for_later(host: Daemon) -> None:
    """Exit status 75 is no attempt."""
    happen(host)
    program = script(host, "echo x >> tried; [ $(wc -l < tried) -ge 3 ] || exit 75")
    with consuming(host, "--exec", program, "--attempts", "1") as consumer:
        consumer.until(lambda: acknowledged(host))
        assert consumer.end() == 0
    assert (host.folder / "tried").read_text() == "x\n" * 4


WAITS = "cat >> began; while [ ! -e go ]; do sleep 0.1; done; echo done >> ended"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_the_event_at_hand_is_finished(host: Daemon, number: int, status: int) -> None:
    """After Ctrl-C, also if the terminal interrupts the whole group; the next event is not begun."""
    happen(host)
    with consuming(host, "--exec", script(host, WAITS)) as consumer:
        consumer.until((host.folder / "began").exists)
        os.killpg(consumer.process.pid, number)
        consumer.until(lambda: consumer.errors.read_text() == FINISHING)
        (host.folder / "go").touch()
        assert consumer.process.wait(PATIENCE) == status
    assert (host.folder / "ended").read_text() == "done\n"
    assert kinds([json.loads((host.folder / "began").read_text())]) == [CREATED]
    with consuming(host, "--json") as consumer:
        consumer.until(lambda: kinds(consumer.lines()) == [RELEASED])


def test_a_second_signal_ends_it_at_once(host: Daemon) -> None:
    """The program is ended too, and the event stays pending."""
    happen(host)
    with consuming(host, "--exec", script(host, f"echo $$ > pid; {WAITS}")) as consumer:
        consumer.until((host.folder / "began").exists)
        pid = (host.folder / "pid").read_text().strip()
        consumer.process.send_signal(signal.SIGINT)
        consumer.until(lambda: consumer.errors.read_text() == FINISHING)
        assert consumer.end(signal.SIGINT) == -signal.SIGINT
        until(lambda: not Path(f"/proc/{pid}").exists())
    assert not (host.folder / "ended").exists()
    assert pending(host) >= 1


def test_an_event_at_hand_that_fails_stays_pending(host: Daemon) -> None:
    """It is not tried again after Ctrl-C, and the command says so."""
    happen(host)
    with consuming(host, "--exec", script(host, f"{WAITS}; exit 3")) as consumer:
        consumer.until((host.folder / "began").exists)
        consumer.process.send_signal(signal.SIGINT)
        consumer.until(lambda: consumer.errors.read_text() == FINISHING)
        (host.folder / "go").touch()
        assert consumer.process.wait(PATIENCE) == 130
    said = consumer.errors.read_text().removeprefix(FINISHING)
    assert said.endswith(": the program exited with status 3; it stays pending\n")
    assert said.count("\n") == 1
    with consuming(host, "--json") as consumer:
        consumer.until(lambda: kinds(consumer.lines()) == [CREATED, RELEASED])


def test_what_a_killed_consumer_had_begun_comes_again(host: Daemon) -> None:
    """Nothing is acknowledged before the program has ended."""
    happen(host)
    with consuming(host, "--exec", script(host, WAITS)) as consumer:
        consumer.until((host.folder / "began").exists)
        consumer.process.kill()
    assert pending(host) >= 1
    with consuming(host, "--json") as consumer:
        consumer.until(lambda: kinds(consumer.lines()) == [CREATED, RELEASED])
    (host.folder / "go").touch()


@pytest.mark.parametrize("output", ["pipe", "/dev/full"])
def test_what_nobody_reads_is_not_acknowledged(host: Daemon, output: str) -> None:
    """A reader that is gone, or a full disk: all events come again."""
    happen(host)
    reading, writing = os.pipe() if output == "pipe" else (-1, os.open(output, os.O_WRONLY))
    if output == "pipe":
        os.close(reading)
    done = subprocess.run(
        [*COMMAND, *WORDS, "--json"],
        env=host.environment,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    os.close(writing)
    full = "Error: the output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, "" if output == "pipe" else full)
    with consuming(host, "--json") as consumer:
        consumer.until(lambda: kinds(consumer.lines()) == [CREATED, RELEASED])


def test_a_reader_of_a_shared_redis_needs_a_settings_file_only(folder: Path) -> None:
    """With the rights of `canhazgpu-reader`, and without a service on this machine."""
    fields = Event(
        id="1",
        source="//elsewhere/canhazgpu",
        type="canhazgpu.gpu.drained",
        subject="gpu/3",
        time="2026-11-25T09:46:40.000Z",
        data={"gpu": 3},
    ).to_fields()
    with serving(folder) as server:
        server.admin.xadd(Keys("elsewhere").events, fields, id="1795600000000-1")
        config = folder / "own.toml"
        config.write_text(f'host = "elsewhere"\n[redis]\nurl = "{server.url(READER)}"\n')
        done = subprocess.run(
            [*COMMAND, "--config", str(config), "events", "-f", "--group", "g", "--exec", "cat; kill $PPID"],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        # The program may have ended before the signal is handled: then nothing is to be finished.
        assert (done.returncode, done.stderr in {"", FINISHING}) == (0, True), done
        event = json.loads(done.stdout)
        assert (event["stream_id"], event["subject"]) == ("1795600000000-1", "gpu/3")
        (group,) = server.admin.xinfo_groups(Keys("elsewhere").events)
        assert (group["name"], group["pending"]) == (b"g", 0)
