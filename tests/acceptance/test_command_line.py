"""Every command: help with examples, one-line errors, and exit codes."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from support.daemon import COMMAND, PATIENCE, Daemon, gpu, until, use

from canhazgpu.cli.commands import COMMANDS, build

USED = gpu(0, use(999_999, 1024, "bob", "python3"), memory_used_mb=45)
FREE = gpu(0, memory_used_mb=45)


def _all_commands() -> list[tuple[str, ...]]:
    app = build(*COMMANDS)
    found: list[tuple[str, ...]] = [()]
    found += [(str(command.name),) for command in app.registered_commands if command.name]
    for group in app.registered_groups:
        assert group.typer_instance is not None
        found.append((str(group.name),))
        inner = group.typer_instance.registered_commands
        found += [(str(group.name), str(command.name)) for command in inner]
    return found


@pytest.fixture
def nowhere(folder: Path) -> Daemon:
    """A host without a running service."""
    return Daemon(folder)


@pytest.mark.parametrize("words", _all_commands(), ids=" ".join)
def test_every_help_has_an_example(nowhere: Daemon, words: tuple[str, ...]) -> None:
    """`--help` exits with 0, fits the terminal, and has examples."""
    done = nowhere.run(*words, "--help")
    assert done.returncode == 0
    assert done.stderr == ""
    assert "Examples:" in done.stdout
    assert " ".join(("  canhazgpu", *words[:1])) in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("frobnicate",),
        ("status", "--frobnicate"),
        ("status", "extra"),
        ("violations", "--since", "tomorrow"),
        ("violations", "--since", "25:00"),
        ("deliveries", "--since", "2026-13-01"),
        ("violations", "--since"),
        ("violations", "--json", "--csv"),
        ("deliveries", "--since", "-1d"),
        ("deadletters",),
        ("deadletters", "replay"),
        ("deadletters", "replay", "one"),
        ("events", "--after", "yesterday"),
        ("events", "--type", "violations"),
        ("notify",),
        ("notify", "test", "--channel", "Pigeon!"),
        ("notify", "preview", "--kind", "pigeon"),
        ("notify", "preview", "extra"),
        ("config",),
        ("config", "check", "/nonexistent.toml"),
        ("--config", "/nonexistent.toml", "serve"),
        ("--config",),
        ("worker", "--name", "a/b"),
        ("log",),
        ("log", "verify", "/nonexistent.log"),
        ("log", "verify", "one", "two"),
    ],
    ids=" ".join,
)
def test_bad_usage_is_one_line_and_exit_code_2(nowhere: Daemon, words: tuple[str, ...]) -> None:
    """A usage error is one line on standard error, before anything is done."""
    done = nowhere.run(*words)
    assert (done.returncode, done.stdout) == (2, ""), done
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("status", "--json"),
        ("violations",),
        ("events", "--follow"),
        ("deliveries",),
        ("deadletters", "list"),
        ("notify", "test", "--channel", "log"),
        ("notify", "preview", "--violation", "v1"),
    ],
    ids=" ".join,
)
def test_without_the_service_exit_code_3_says_how_to_start_it(
    nowhere: Daemon, words: tuple[str, ...]
) -> None:
    """Without a service, the line names the socket and the command to start it."""
    done = nowhere.run(*words)
    assert (done.returncode, done.stdout) == (3, ""), done
    assert done.stderr.count("\n") == 1
    assert str(nowhere.folder / "s") in done.stderr
    assert "canhazgpu serve" in done.stderr


def test_a_bad_settings_file_is_named_with_key_and_expectation(nowhere: Daemon) -> None:
    """A wrong setting is the same line for the service and for `config check`."""
    path = nowhere.folder / "config.toml"
    path.write_text('[memory]\nthreshold_mb = "much"\n')
    for words in (("config", "check", str(path)), ("config", "check"), ("serve",), ("worker",)):
        done = nowhere.run(*words)
        assert done.returncode == 2
        assert done.stderr == (
            f"Error: {path}: memory.threshold_mb: expected a whole number of at least 0, not 'much'\n"
        )


@pytest.mark.parametrize(
    ("key", "value"),
    [("admin_group", "nosuchgroup"), ("socket", "/run/" + "x" * 120), ("state_dir", "/proc/nothing")],
)
def test_a_service_that_cannot_start_says_why_on_one_line(nowhere: Daemon, key: str, value: str) -> None:
    """If the service cannot start, the line names the setting, and nothing stays running."""
    path = nowhere.folder / "config.toml"
    rows = [row for row in path.read_text().splitlines() if not row.startswith(f"{key} ")]
    path.write_text("\n".join([f'{key} = "{value}"', *rows]))
    done = nowhere.run("serve")
    assert done.returncode == (2 if key == "socket" else 1)  # Too long a path is seen before anything starts.
    last = done.stderr.splitlines()[-1]
    assert last.startswith("Error: ")
    assert key in last
    assert "Traceback" not in done.stderr
    assert not (nowhere.folder / "state" / "redis" / "redis.sock").exists()


def test_a_second_service_is_refused_with_the_reason(host: Daemon) -> None:
    """A second service ends at once, names the pid of the first, and does not affect it."""
    assert host.process is not None
    done = host.run("serve")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("Error: ")
    assert str(host.process.pid) in done.stderr
    assert host.run("status").returncode == 0


def test_following_events_survives_a_restart_without_loss_or_repeat(host: Daemon) -> None:
    """`events --follow` continues after the service was killed; each event comes once, in order."""
    reader = subprocess.Popen(
        [*COMMAND, "events", "--follow", "--json", "--type", "violation"],
        env=host.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert reader.stdout
    try:
        host.place(USED)
        read = [reader.stdout.readline()]
        host.stop(signal.SIGKILL)
        host.place(FREE)
        host.start()
        read.append(reader.stdout.readline())
        for state in (USED, FREE):  # A repeat would come before what is new.
            host.place(state)
            read.append(reader.stdout.readline())
    finally:
        reader.send_signal(signal.SIGINT)
    rest, err = reader.communicate(timeout=PATIENCE)
    until(lambda: len(host.facts()) == len(read))
    assert [json.loads(line)["id"] for line in read] == [fact["id"] for fact in host.facts()]
    assert rest == ""
    assert "Traceback" not in err
    assert reader.returncode == 130


def test_violations_are_listed_by_user_time_and_state(host: Daemon) -> None:
    """`violations` filters by --open, --user and --since, as table, JSON and CSV."""
    host.place(USED)
    until(lambda: len(host.facts()) == 1)
    rows = json.loads(host.run("violations", "--open", "--json").stdout)
    assert [(row["user"], row["gpu"]) for row in rows] == [("bob", 0)]
    assert "bob" in host.run("violations").stdout
    assert json.loads(host.run("violations", "--user", "alice", "--json").stdout) == []
    header, line = host.run("violations", "--csv").stdout.splitlines()
    assert "user" in header.split(",")
    assert "bob" in line.split(",")
    host.place(FREE)
    until(lambda: len(host.facts()) == 2)
    assert json.loads(host.run("violations", "--open", "--json").stdout) == []
    assert len(json.loads(host.run("violations", "--since", "1h", "--json").stdout)) == 1


def test_the_log_channel_can_be_tried(host: Daemon) -> None:
    """`notify test --channel log` writes a line and reports the outcome."""
    done = host.run("notify", "test", "--channel", "log")
    assert done.returncode == 0, done.stderr
    assert "delivered" in done.stdout
    lines = (host.folder / "violations.log").read_text().splitlines()
    assert [json.loads(line)["type"] for line in lines] == ["canhazgpu.notice.test"]
    refused = host.run("notify", "test", "--channel", "email")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "there is no channel email (enabled channels: wall, log)" in refused.stderr
    for name in ("webhook", "webhook:chat", "pigeon"):
        unknown = host.run("notify", "test", "--channel", name)
        assert (unknown.returncode, unknown.stderr.count("\n")) == (2, 1)
        assert f"there is no channel {name}" in unknown.stderr


def test_the_doctor_says_what_works_and_what_to_do(host: Daemon) -> None:
    """On a working host `doctor` has no failure; every problem has a remedy."""
    done = host.run("doctor", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0, [row for row in found if row["state"] == "fail"]
    assert {"settings", "service", "redis", "gpus", "terminals", "email", "log"} <= {
        row["check"] for row in found
    }
    assert all(row["remedy"] for row in found if row["state"] != "ok")
    assert host.stop() == 0
    stopped = host.run("doctor")
    assert stopped.returncode == 1
    assert "canhazgpu serve" in stopped.stdout


def test_workers_in_a_process_of_their_own_do_the_work(folder: Path) -> None:
    """With `serve --no-workers` and `worker` each fact is one line; a second worker of a name is refused."""
    host = Daemon(folder).start("--no-workers")
    worker = subprocess.Popen([*COMMAND, "worker"], env=host.environment, stderr=subprocess.PIPE)
    try:
        host.place(USED)
        until(lambda: len(host.facts()) == 1)
        again = host.run("worker")
        assert (again.returncode, again.stderr.count("\n")) == (1, 1)
        assert "--name" in again.stderr
    finally:
        worker.terminate()
        _, err = worker.communicate(timeout=PATIENCE)
        assert host.stop() == 0
    assert worker.returncode == 0
    assert b"Traceback" not in err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_there(nowhere: Daemon, shell: str) -> None:
    """Completion scripts are printed, and offer the words of a command."""
    environment = {**nowhere.environment, "_CANHAZGPU_COMPLETE": f"source_{shell}"}
    script = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, check=False)
    assert "canhazgpu" in script.stdout
    if shell == "bash":
        asked = {**nowhere.environment, "_CANHAZGPU_COMPLETE": "complete_bash"}
        asked |= {"COMP_WORDS": "canhazgpu vio", "COMP_CWORD": "1"}
        words = subprocess.run(COMMAND, env=asked, capture_output=True, text=True, check=False)
        assert words.stdout.split() == ["violations"]


def test_a_reader_that_goes_away_is_no_error(host: Daemon) -> None:
    """`canhazgpu events | head -1` ends without an error."""
    line = f"{' '.join(COMMAND)} events --json | head -c 1 >/dev/null; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", line], env=host.environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_service_ends_in_order_on_a_signal(host: Daemon) -> None:
    """SIGTERM ends the service with 0, together with its Redis and its socket."""
    assert host.process is not None
    pid = int(host.redis().info("server")["process_id"])
    assert host.stop() == 0
    assert not (host.folder / "s").exists()
    until(lambda: not os.path.exists(f"/proc/{pid}"))  # noqa: PTH110 - a pid is no path of ours


def test_output_that_cannot_be_written_is_one_line(host: Daemon) -> None:
    """A full disk is an error, a closed output is none; neither is a traceback."""
    for words in (["status"], ["status", "--json"], ["violations"], ["events"], ["config", "show"]):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [*COMMAND, *words], env=host.environment, stdout=full, stderr=subprocess.PIPE, check=False
            )
        assert done.returncode == 1, words
        assert done.stderr == b"Error: the output cannot be written: No space left on device\n"
        closed = f"{' '.join([*COMMAND, *words])} >&- <&-"
        quiet = subprocess.run(
            ["bash", "-c", closed], env=host.environment, stderr=subprocess.PIPE, check=False
        )
        assert (quiet.returncode, quiet.stderr) == (0, b""), words
