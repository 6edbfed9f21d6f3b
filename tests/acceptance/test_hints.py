"""Words of other tools: one line says what to type here, which works; nothing is reserved."""

import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import COMMAND, PATIENCE, Daemon, gpu, until
from support.programs import words_of

from canhazgpu.cli.commands import COMMANDS
from canhazgpu.cli.syntax import peer_options, peer_words


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Two idle GPUs, and a folder with a few programs, `cd` among them as some systems have it."""
    programs = tmp_path_factory.mktemp("bin")
    for name in ("train", "cd"):
        (programs / name).write_text(f'#!/bin/sh\necho {name} "$@" A=$A\n')
    (programs / "canhazgpu").write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    (programs / "env.sh").write_text("A=sourced; export A\n")
    for path in programs.iterdir():
        path.chmod(0o755)
    (programs / "folder").mkdir()
    with tempfile.TemporaryDirectory(prefix="chg-", dir="/tmp") as name:
        daemon = Daemon(Path(name)).start()
        daemon.place(gpu(0), gpu(1))
        until(lambda: daemon.status().count("AVAILABLE") == 2)
        (daemon.folder / "bin").symlink_to(programs)
        yield daemon
        daemon.stop()


def typed(host: Daemon, line: str) -> "subprocess.CompletedProcess[str]":
    """Type a line into a shell, in the folder of the programs."""
    return subprocess.run(
        words_of(line, ["bash"]),
        env={**host.environment, "PATH": f"{host.folder}/bin:{os.environ['PATH']}"},
        cwd=host.folder / "bin",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


def hint(host: Daemon, line: str, code: int) -> str:
    """Return the one line that answers a mistake."""
    done = typed(host, line)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1), done
    assert host.status().count("AVAILABLE") == 2
    return done.stderr


@pytest.mark.parametrize(
    "word",
    ["ps", "squeue", "nvidia-smi", "free", "help", "last", "w", "logs", "seff", "stats", "share", "lock"],
)
def test_a_command_of_a_peer_gets_a_hint(idle: Daemon, word: str) -> None:
    """It is a usage error, whatever follows the word."""
    said = f"Error: there is no command {word}: {peer_words.COMMANDS[word]}\n"
    assert hint(idle, f"canhazgpu {word} -l", 2) == said


def test_every_hint_names_commands_and_options_that_exist() -> None:
    """No word that is a command here has a hint, and no hint is longer than a line."""
    assert not {*peer_words.COMMANDS} & {*COMMANDS}
    for said in peer_words.COMMANDS.values():
        assert all(name in COMMANDS for name in re.findall(r"`canhazgpu ([a-z]+)", said)), said
        assert "canhazgpu" in said
        assert len(said) < 100
    own = {"--duration", "--gpus", "--gpu-ids", "--note", "--nonblock", "--watch", "--json"}
    own |= {"--gpu", "--number", "--since", "--until", "--interval", "--mine"}
    assert all(
        peer_options.option_hint(option, own) for option in {*peer_options.OPTIONS, *peer_options.NEEDLESS}
    )
    assert peer_options.option_hint("--time", ("--json",)) is None


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("run --time 2h -- train", 125, "there is no option --time: use --duration 2h"),
        ("run --time 2h train", 125, "there is no option --time: use --duration 2h"),
        ("run --gres=gpu:2 -- train", 125, "there is no option --gres: use --gpus 2"),
        ("run --time=4:00:00 train", 125, "there is no option --time: use --duration 4:00:00"),
        ("run --time 1-12:00:00 -- train", 125, "there is no option --time: use --duration 1-12:00:00"),
        ("run --time=90 -- train", 125, "there is no option --time: use --duration 90m"),
        ("reserve --time '3 days'", 2, "there is no option --time: use --duration '3 days'"),
        ("run --gres=gpu:a100:3 -- train", 125, "there is no option --gres: use --gpus 3"),
        ("reserve --num-gpus 4", 2, "there is no option --num-gpus: use --gpus 4"),
        ("reserve --gres gpu", 2, "there is no option --gres: use --gpus 2"),
        ("reserve --time 2h", 2, "there is no option --time: use --duration 2h"),
        ("reserve --gpu 1", 2, "there is no option --gpu: use --gpu-ids 0,2"),
        ("run -p gpu -- train", 125, "there is no option -p: leave it out: only the GPUs of this host"),
        ("run --pty train", 125, "there is no option --pty: leave it out: the command has your terminal"),
        ("status --loop", 2, "there is no option --loop: use --watch"),
        ("status --format=csv", 2, "there is no option --format: use --json"),
        ("-L", 2, "there is no option -L: `canhazgpu status` shows every GPU"),
        ("--query-gpu=uuid", 2, "there is no option --query-gpu=uuid: `canhazgpu status` shows"),
        ("-l 1", 2, "there is no option -l: `canhazgpu status --watch` refreshes"),
        ("reserve --name x", 2, "there is no option --name: use --note TEXT"),
        ("reserve -t 1h", 2, "there is no option -t: use --duration 1h"),
        ("reserve --hours 4", 2, "there is no option --hours: use --duration 4h"),
        ("reserve --time soon", 2, "there is no option --time: use --duration 2h"),
        ("run --gpus all -- train", 125, "'all' is not a whole number: --gpu-ids says which GPUs"),
        ("run --gpus device=0 -- train", 125, "--gpu-ids says which GPUs, such as 0,2 or all"),
        ("run -it -- train", 125, "there is no option -it: leave it out: the command has your terminal"),
        ("run -it train", 125, "there is no option -it: leave it out: the command has your terminal"),
        ("run --rm -- train", 125, "there is no option --rm: leave it out: the GPUs are released when"),
        ("history -G 0", 2, "there is no option -G: use --gpu 3"),
        ("history --limit 5", 2, "there is no option --limit: use --number 20"),
        ("top -d 1", 2, "there is no option -d: use --interval 5s"),
        ("-V", 2, "there is no option -V: `canhazgpu --version` prints it"),
        ("--json", 2, "there is no option --json: write it after a command"),
        ("--gpus 1 -- train", 2, "there is no option --gpus: `canhazgpu run --gpus 1 -- COMMAND`"),
        ("reserve 1", 2, "reserve takes no arguments: use --gpus 2 (how many) or --gpu-ids 0,2 (which)"),
        ("reserve 4h", 2, "and --duration 4h"),
        ("history bob", 2, "history takes no arguments: use --user bob"),
        ("violations v17", 2, "or `canhazgpu violations show ID`"),
        ("run -N 1 -x n1 -- train", 125, "there is no option -N: leave it out: only the GPUs of this host"),
        ("run --exclusive -- train", 125, "there is no option --exclusive: leave it out: nobody else gets"),
        ("run --array=1-3 -- train", 125, "there is no option --array: leave it out: use && or a loop"),
        ("run -v /a:/b -- train", 125, "there is no option -v: leave it out: the command sees the files"),
        ("run -n 2 -- train", 125, "-n is the note: use --gpus 2 for 2 GPUs, or --note 2"),
        ("reserve -n 2", 2, "-n is the note: use --gpus 2 for 2 GPUs, or --note 2"),
        ("reserve --until 18:00", 2, "for the end of a reservation, use --duration 2h"),
        ("queue --me", 2, "there is no option --me: leave it out: queue lists all requests"),
        ("queue --start", 2, "with their expected start"),
        ("cancel --name x", 2, "there is no option --name: name a request by its id"),
        ("history --mine", 2, "there is no option --mine: leave it out: without --user and --gpu, history"),
        ("top -1", 2, "there is no option -1: `canhazgpu status --long` prints the table once"),
        ("silence 1h", 2, "use an option for the time: canhazgpu silence ack --duration 1h"),
        ("silence ack 1h", 2, "use an option for the time: canhazgpu silence ack --duration 1h"),
        ("silence", 2, "say which: silence add, silence ack, silence list, silence expire"),
        ("config get socket", 2, "say which: config "),
        ("log", 2, "say which: log "),
        ("violations --mine --user bob", 2, "--user and --mine cannot be used together"),
        ("reserve --note", 2, "'--note' requires an argument. (see `canhazgpu reserve --help`)"),
    ],
)
def test_an_option_of_a_peer_gets_a_hint(idle: Daemon, line: str, code: int, said: str) -> None:
    """The option of this command that does the same, or that none is needed."""
    assert said in hint(idle, f"canhazgpu {line}", code)


@pytest.mark.parametrize(
    ("line", "out"),
    [
        ("run train x", "train x A=\n"),
        ("run train --lr 3", "train --lr 3 A=\n"),
        ("run --gpus 2 train --gpus 'a b'", "train --gpus a b A=\n"),
        ("run --wait train x", "train x A=\n"),
        ("run -w 1m -g 1 train x", "train x A=\n"),
        ("run --gpus=1 train x", "train x A=\n"),
        ("run train -- x", "train x A=\n"),
        ("run --config none.toml train x", "train x A=\n"),
        ("run train --config lr.yaml", "train --config lr.yaml A=\n"),
        ("run --gpus 1 train --config=lr.yaml", "train --config=lr.yaml A=\n"),
        ("train x", "train x A=\n"),
        ("run -- cd folder", "train A=\n"),
        ("run -- source env.sh", "train A=sourced\n"),
        ("run -- . ./env.sh", "train A=sourced\n"),
        ("run -- export A=1", "train A=1\n"),
        ("run -- A=1 train x", "train x A=1\n"),
        ("run -- A=1", "train A=1\n"),
        ("run -- umask 022", "train A=\n"),
        ("run -- 'train a b'", "train a b A=\n"),
        ("run -- 'A=2 train a > out; cat out'", "train a A=2\n"),
        ("run -- eval train", "train A=\n"),
    ],
)
def test_what_the_hint_says_works(idle: Daemon, line: str, out: str) -> None:
    """The line that it names runs the command, with COMMAND replaced; the codes are those of `run`."""
    code = 127 if "--" in line.split()[:2] else 2 if line == "train x" else 125
    (idle.folder / "bin/none.toml").write_text(f'socket = "{idle.folder}/s"\n')
    said = hint(idle, f"canhazgpu {line}", code)
    named = said.partition("canhazgpu run ")[2].strip().removesuffix("; nothing was reserved")
    done = typed(idle, f"canhazgpu run {named.replace('COMMAND', 'train')}")
    assert (done.returncode, done.stdout) == (0, out), (said, done)
    until(lambda: idle.status().count("AVAILABLE") == 2)


def test_a_hint_is_safe_to_print_and_not_endless(idle: Daemon) -> None:
    """Control characters are spelled out, and a long line is cut."""
    done = idle.run("run", "train\x1b[2J", "x" * 5000)
    assert (done.returncode, done.stderr.count("\n")) == (125, 1)
    assert "\x1b" not in done.stderr
    assert len(done.stderr) < 400


def test_a_mistyped_command_is_still_called_one(idle: Daemon) -> None:
    """Words that no other tool has keep their message, with the command that is nearest."""
    assert "Did you mean 'status'?" in hint(idle, "canhazgpu stauts", 2)
    assert "No such option: --frobnicate" in hint(idle, "canhazgpu run --frobnicate -- train", 125)
    assert shlex.split(hint(idle, "canhazgpu", 2))[0] == "Error:"
