"""The tab key in bash, zsh and fish, pressed on real terminals."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.completed import offered, says
from support.daemon import COMMAND, Daemon, gpu, until, use
from support.people import Person
from support.programs import need

SHELLS = {
    "bash": ["bash", "--norc", "--noprofile"],
    "zsh": ["zsh", "-f"],
    "fish": ["fish", "--no-config"],
}
# The tab key does not wait long for a service that is slow, here it does.
PATIENT = """\
from canhazgpu.cli import main
from canhazgpu.cli.completion import candidates
candidates.PATIENCE = 60.0
main.main()
"""
PREPARE = {
    "bash": "PS1='$ '; bind 'set enable-bracketed-paste off'; source ./bash.script",
    "zsh": "PROMPT='$ '; autoload -Uz compinit; compinit -u -d ./dump; source ./zsh.script",
    "fish": "function fish_prompt; printf '$ '; end; set -g fish_autosuggestion_enabled 0;"
    " source ./fish.script",
}


class Terminal:
    """A shell in tmux, in the folder of a host, with the completion loaded."""

    def __init__(self, host: Daemon, shell: str) -> None:
        """Start it; return when it shows its prompt."""
        need("tmux")
        need(shell)
        self._words = ["tmux", "-S", str(host.folder / f"{shell}.tmux"), "-f", "/dev/null"]
        self._host = host
        self._do("new-session", "-d", "-x", "150", "-y", "50", *SHELLS[shell])
        self.type(PREPARE[shell] + "; clear\n")
        self.shows("$")

    def _do(self, *words: str) -> str:
        path = f"{self._host.folder}/bin:{os.environ['PATH']}"
        kept = {name: text for name, text in self._host.environment.items() if name != "COLUMNS"}
        environment = {**kept, "PATH": path, "HOME": str(self._host.folder), "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            [*self._words, *words],
            env=environment,
            cwd=self._host.folder / "work",
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def type(self, text: str) -> None:
        """Type a text."""
        self._do("send-keys", "-l", text)

    def key(self, name: str) -> None:
        """Press a key."""
        self._do("send-keys", name)

    @property
    def lines(self) -> list[str]:
        """What is on the screen."""
        return [line.rstrip() for line in self._do("capture-pane", "-p").splitlines() if line.strip()]

    def shows(self, last: str) -> None:
        """Wait until this is the last line."""
        try:
            until(lambda: self.lines[-1:] == [last], 30)
        except AssertionError:
            raise AssertionError(f"not {last!r}: {self.lines}") from None

    def completes(self, typed: str, to: str) -> None:
        """Check what the tab key makes of a line, and leave it. The `.` comes after the effect.

        A line that is left runs no command: what is typed while one runs is echoed before the next prompt.
        """
        self.type(typed)
        self.shows(f"$ {typed}".rstrip())
        self.key("Tab")
        self.type(".")
        self.shows(f"$ {to}.")
        self.key("C-c")
        self.shows("$")

    def close(self) -> None:
        """End the shell."""
        with suppress(subprocess.CalledProcessError):
            self._do("kill-server")


@pytest.fixture(scope="module")
def busy() -> Iterator[Daemon]:
    """Four GPUs: free, used by bob without a reservation, held by this user, and drained."""
    with tempfile.TemporaryDirectory(prefix="chg-", dir="/tmp") as name:
        host = Daemon(Path(name), '[notify.webhook.chat]\nurl = "http://127.0.0.1:9/"\n')
        host.place(gpu(0), gpu(1, use(999_999, 1024, "bob", "python3")), gpu(2), gpu(3))
        host.start()
        for folder in ("bin", "work"):
            (host.folder / folder).mkdir()
        for program in ("canhazgpu", "train-it"):
            (host.folder / "bin" / program).write_text(f"#!{sys.executable}\n{PATIENT}")
            (host.folder / "bin" / program).chmod(0o755)
        for shell in SHELLS:
            (host.folder / "work" / f"{shell}.script").write_text(says(host, f"source_{shell}").stdout)
        (host.folder / "work" / "data.toml").touch()
        assert host.run("reserve", "--gpu-ids", "2").returncode == 0
        assert host.run("admin", "drain", "3").returncode == 0
        until(lambda: len(host.facts()) == 1)
        words = ("silence", "add", "--user", "bob", "--duration", "1h", "--reason", "it's $(so); `x`")
        assert host.run(*words).returncode == 0
        yield host
        host.stop()


def one(host: Daemon, *words: str) -> Any:
    """Return the only row that a command prints."""
    (row,) = json.loads(host.run(*words, "--json").stdout)
    return row


# That the words are the right ones is seen in one shell, and below; what a shell makes of them in each.
IN_BASH = (
    ("canhazgpu admin undr", "ain "),
    ("canhazgpu reserve --gpu-ids ", "0 "),
    ("canhazgpu admin undrain ", "3 "),
    ("canhazgpu violations --user b", "ob "),
    ("canhazgpu events --type violation.op", "ened "),
    ("canhazgpu events --follow --stream viol", "ations "),
    ("canhazgpu reserve --shell fi", "sh "),
)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_tab_key(busy: Daemon, shell: str) -> None:
    """What makes sense at each place, and after `run --` what the shell itself offers."""
    violation, silence = one(busy, "violations")["violation"], one(busy, "silence", "list")["id"]
    terminal = Terminal(busy, shell)
    try:
        for typed, added in (
            *(IN_BASH if shell == "bash" else ()),
            ("canhazgpu rele", "ase "),
            ("canhazgpu reserve --dur", "ation "),
            ("canhazgpu release ", "2 "),
            ("canhazgpu violations show ", f"{violation} "),
            ("canhazgpu silence expire ", f"{silence} "),
            ("canhazgpu notify test --channel webhook:", "chat "),
            ("canhazgpu config check da", "ta.toml "),
            ("canhazgpu release da", ""),
            ("canhazgpu run --gpus 1 -- train-", "it "),
            ("canhazgpu run -- cat da", "ta.toml "),
        ):
            terminal.completes(typed, typed + added)
    finally:
        terminal.close()


@pytest.mark.parametrize("shell", SHELLS)
def test_without_a_service_nothing_is_said(busy: Daemon, shell: str) -> None:
    """Neither an error nor a long wait: the line stays as it is."""
    busy.stop()
    terminal = Terminal(busy, shell)
    try:
        for typed in ("canhazgpu release ", "canhazgpu violations --user ", "canhazgpu nosuch "):
            terminal.completes(typed, typed)
    finally:
        terminal.close()
        busy.start()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("canhazgpu release ", ["2"]),
        ("canhazgpu extend ", ["2"]),
        ("canhazgpu env --gpu-ids ", ["2"]),
        ("canhazgpu run --gpu-ids ", ["0"]),
        ("canhazgpu reserve -G 1,", ["1,0"]),
        ("canhazgpu admin drain ", ["0", "1", "2"]),
        ("canhazgpu admin drain 0,", ["0,1", "0,2"]),
        ("canhazgpu admin undrain ", ["3"]),
        ("canhazgpu admin release ", ["2"]),
        ("canhazgpu admin release --user ", ["root"]),
        ("canhazgpu silence add --gpu ", ["0", "1", "2", "3"]),
        ("canhazgpu silence add --user ", ["bob", "root"]),
        ("canhazgpu cancel ", []),
        ("canhazgpu cancel --user ", []),
        ("canhazgpu deadletters replay ", []),
        ("canhazgpu notify preview --channel ", ["wall", "email"]),
        ("canhazgpu status --sort u", ["util", "user", "until"]),
        ("canhazgpu sil", ["silence"]),
    ],
)
def test_only_what_makes_sense_is_offered(busy: Daemon, line: str, words: list[str]) -> None:
    """The GPUs that are held, free or drained, the users who are concerned, and so on."""
    until(lambda: offered(busy, line) == words, 30)  # A service that is slow to answer offers nothing.


def test_what_can_be_cancelled_is_offered(busy: Daemon, people: list[Person]) -> None:
    """One's requests and bookings; after --user those of that user."""
    words = ("reserve", "--short", "--gpu-ids", "0", "--duration", "1h", "--begin")
    own, theirs = (
        busy.run(*words, begin, **options).stdout.strip()
        for begin, options in (("+3h", {}), ("+5h", {"person": people[0]}))
    )
    waits = [*COMMAND, "reserve", "--gpu-ids", "2", "--wait"]
    waiting = subprocess.Popen(waits, env=busy.environment, stderr=subprocess.DEVNULL)
    try:
        until(lambda: json.loads(busy.run("queue", "--json").stdout))
        request = one(busy, "queue")["id"]
        until(lambda: offered(busy, "canhazgpu cancel ") == [request, own], 30)
        until(lambda: offered(busy, "canhazgpu cancel b") == [own], 30)
        until(lambda: offered(busy, f"canhazgpu cancel --user {people[0].name} ") == [theirs], 30)
        until(lambda: offered(busy, "canhazgpu cancel --user ") == sorted([people[0].name, "root"]), 30)
    finally:
        waiting.terminate()
        waiting.wait()
        busy.run("cancel", own)
        busy.run("cancel", theirs, "--user", people[0].name)
        until(lambda: not json.loads(busy.run("queue", "--json").stdout))


def test_text_of_users_is_safe(busy: Daemon) -> None:
    """A reason with code of a shell in it is only shown, and control characters are spelled out."""
    words = ("silence", "add", "--gpu", "0", "--duration", "1h", "--reason", "a\x1b[2J\tb")
    assert busy.run(*words).returncode == 0
    asked = {"_TYPER_COMPLETE_FISH_ACTION": "get-args", "_TYPER_COMPLETE_ARGS": "canhazgpu silence expire "}
    until(lambda: "it's $(so); `x`" in says(busy, "complete_fish", **asked).stdout, 30)
    shown = says(busy, "complete_fish", **asked).stdout
    assert all(row.replace("\t", "", 1).isprintable() for row in shown.splitlines())


def test_bash_hands_the_command_to_its_own_completion(busy: Daemon) -> None:
    """With the bash-completion package, after `run --` its functions decide, from the command on."""
    script = (
        "source ./bash.script; _command_offset() { echo offset $1; };"
        "COMP_WORDS=(canhazgpu run --gpus 2 -- git ch); COMP_CWORD=6; _canhazgpu_completion canhazgpu"
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        cwd=busy.folder / "work",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("offset 5\n", "")


@pytest.mark.parametrize("form", ["--install-completion {}", "--install-completion={}"])
def test_the_shell_that_is_named_counts(busy: Daemon, form: str) -> None:
    """Typed in bash, --install-completion writes the script of the shell that it names, and no other."""
    for shell, path in {
        "fish": ".config/fish/completions/canhazgpu.fish",
        "zsh": ".zfunc/_canhazgpu",
    }.items():
        home = busy.folder / form.format(shell)
        home.mkdir()
        command = f"{' '.join(COMMAND)} {form.format(shell)}; exit $?"
        environment = {**busy.environment, "HOME": str(home)}
        subprocess.run(["bash", "-c", command], env=environment, check=True, capture_output=True)
        assert (home / path).read_text().strip() == says(busy, f"source_{shell}").stdout.strip()
        assert not (home / ".bashrc").exists()
    for words in ("elvish", "fish zsh"):
        done = busy.run(*form.format(words).split())
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert "bash, zsh, fish" in done.stderr


def test_the_script_can_be_installed(busy: Daemon) -> None:
    """--install-completion writes the same scripts; an unknown shell is named."""
    home = busy.folder / "home"
    home.mkdir()
    for shell, path in {"bash": ".bash_completions/canhazgpu.sh", "zsh": ".zfunc/_canhazgpu"}.items():
        need(shell)
        command = f"{' '.join(COMMAND)} --install-completion {shell}; true"
        environment = {**busy.environment, "HOME": str(home), "SHELL": f"/bin/{shell}"}
        subprocess.run([shell, "-c", command], env=environment, check=True, capture_output=True)
        assert (home / path).read_text().strip() == says(busy, f"source_{shell}").stdout.strip()
    done = says(busy, "source_elvish")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
