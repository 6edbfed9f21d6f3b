"""A settings file that is named must be usable; no command falls back to the host's own service."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.daemon import COMMAND, Daemon, gpu, until, use
from support.exit_codes import code_of
from support.people import Person

from canhazgpu.client import BadSettings, connection, socket_path
from canhazgpu.config import load as loading
from canhazgpu.config.load import ConfigError, load
from canhazgpu.events.default_paths import SOCKET

ASKING = [
    ("status",),
    ("status", "--json"),
    ("status", "--watch"),
    ("run", "--", "true"),
    ("reserve",),
    ("extend",),
    ("release",),
    ("queue",),
    ("who",),
    ("history",),
    ("admin", "init"),
    ("violations",),
    ("violations", "show", "v1"),
    ("silence", "list"),
    ("events",),
    ("deliveries",),
    ("deadletters", "list"),
    ("log", "verify"),
    ("notify", "test", "--channel", "log"),
    ("notify", "preview", "--violation", "v1"),
    ("config", "check"),
    ("config", "show"),
    ("serve",),
    ("worker",),
]
OTHERS = [("notify", "preview", "--list"), ("config", "example"), ("doctor",), ("--version",)]


@pytest.fixture
def nowhere(folder: Path) -> Daemon:
    """A host without a running service."""
    return Daemon(folder)


def _of(words: tuple[str, ...], said: str) -> str:
    """Return the line as the command says it: `run` names the kind of its own failures."""
    return said.replace("Error: ", "Error: settings: ") if words[0] == "run" else said


def spoil(path: Path, how: str) -> str:
    """Make a file unusable; return the expected error."""
    path.unlink()
    if how == "missing":
        return f"Error: {path}: cannot be read: No such file or directory\n"
    if how == "folder":
        path.mkdir()
        return f"Error: {path}: cannot be read: Is a directory\n"
    path.write_text("socket = \n")
    return f"Error: {path}: is not valid TOML: Invalid value (at line 1, column 10)\n"


@pytest.mark.parametrize("how", ["missing", "folder", "no TOML"])
@pytest.mark.parametrize("words", ASKING, ids=" ".join)
def test_a_file_named_by_a_variable_is_missed(nowhere: Daemon, words: tuple[str, ...], how: str) -> None:
    """Every command that needs a file named by a variable reports on one line that it is not usable."""
    said = spoil(nowhere.folder / "config.toml", how)
    done = nowhere.run(*words)
    assert (done.returncode, done.stdout, done.stderr) == (code_of(words, 2), "", _of(words, said))


@pytest.mark.parametrize("how", ["missing", "no TOML"])
@pytest.mark.parametrize("words", [("status",), ("log", "verify", "/x"), *OTHERS], ids=" ".join)
def test_a_file_named_here_is_missed(nowhere: Daemon, words: tuple[str, ...], how: str) -> None:
    """Every command reports a file named by `--config` that is not usable, wherever the option is."""
    other = nowhere.folder / "other.toml"
    other.touch()
    said = spoil(other, how)
    for called in ([f"--config={other}", *words], [*words, "--config", str(other)]):
        done = nowhere.run(*called)
        assert (done.returncode, done.stdout, done.stderr) == (code_of(words, 2), "", _of(words, said))


def test_an_option_without_a_file_is_refused(nowhere: Daemon) -> None:
    """`--config` without a file is refused; an empty value does not mean the host's own file."""
    missing = "Error: --config needs the name of a settings file after it: --config FILE\n"
    empty = "Error: --config: the value is empty: leave the option out, or name a file\n"
    for words, said in {("--config", "", "status"): missing, ("status", "--config="): empty}.items():
        done = nowhere.run(*words)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


def test_a_pipe_is_read_once(host: Daemon) -> None:
    """`--config <(...)` works, although a pipe can be read only once."""
    line = f"{' '.join(COMMAND)} --config <(cat {host.folder}/config.toml) "
    for words in ("status", "config check"):
        done = subprocess.run(["bash", "-c", line + words], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), done
        assert "GPU 0: AVAILABLE" in done.stdout or done.stdout.startswith("Good: /dev/fd/")


@pytest.mark.parametrize("value", ['""', '"/tmp/a\\u0000b"', "5"])
def test_a_socket_that_is_none_is_said(nowhere: Daemon, value: str) -> None:
    """An invalid value of `socket` is reported with the file, not as a missing service."""
    path = nowhere.folder / "config.toml"
    path.write_text(f"socket = {value}\n")
    done = nowhere.run("status")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"Error: {path}: socket: expected the path of a file, not ")
    assert done.stderr.rstrip("\n").isprintable()


def test_an_empty_variable_names_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an empty $CANHAZGPU_CONFIG, the host's own file counts for commands and service."""
    own = tmp_path / "own.toml"
    own.write_text('socket = "/own.sock"\n')
    monkeypatch.setattr(connection, "CONFIG", str(own))
    monkeypatch.setattr(loading, "CONFIG", str(own))
    monkeypatch.setenv("CANHAZGPU_CONFIG", "")
    assert socket_path() == load().settings.socket == "/own.sock"
    own.unlink()
    assert socket_path() == load().settings.socket == SOCKET


def test_the_hosts_own_file_may_be_of_no_use_to_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the host's file is not usable, commands use the default socket; loading the settings is an error."""
    own = tmp_path / "own.toml"
    monkeypatch.setattr(connection, "CONFIG", str(own))
    monkeypatch.setattr(loading, "CONFIG", str(own))
    monkeypatch.delenv("CANHAZGPU_CONFIG", raising=False)
    own.symlink_to(own)
    assert socket_path() == SOCKET
    with pytest.raises(ConfigError, match="cannot be read"):
        load()


def test_a_file_that_a_user_may_not_read_is_said(nowhere: Daemon, people: list[Person]) -> None:
    """A named file that the user may not read is reported."""
    path = nowhere.folder / "config.toml"
    path.chmod(0o600)
    program = (
        "import os, sys; os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[2]));"
        "socket_path()"
    )
    bob = people[0]
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"from canhazgpu.client import socket_path; {program}",
            str(bob.gid),
            str(bob.uid),
        ],
        env=nowhere.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.endswith(f"BadSettings: {path}: cannot be read: Permission denied\n")


def test_a_program_is_told_by_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python API raises an exception with the same text."""
    monkeypatch.setenv("CANHAZGPU_CONFIG", "/nonexistent.toml")
    with pytest.raises(BadSettings, match=r"^/nonexistent\.toml: cannot be read: No such file"):
        socket_path()


def test_a_preview_does_not_make_up_a_host(host: Daemon) -> None:
    """A preview reports an error in the named file instead of showing another host's name."""
    host.place(gpu(0, use(999_999, 1024, "bob", "python3")))
    until(lambda: len(host.facts()) == 1)
    words = ("notify", "preview", "--violation", "v1", "--kind", "opened")
    assert host.run(*words).returncode == 0
    path = host.folder / "config.toml"
    path.write_text(path.read_text() + "[memory]\nthreshold = 1\n")
    done = host.run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"Error: {path}: memory.threshold: no such key; ")
