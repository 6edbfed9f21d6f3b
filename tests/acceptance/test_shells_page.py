"""docs/integrations/shells.md: what programs see in each place, with the real programs."""

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.daemon import until
from support.login_host import LoginHost, login_host
from support.programs import need

__all__ = ["login_host"]
PAGE = (Path(__file__).parents[2] / "docs" / "integrations" / "shells.md").read_text()
TABLE = PAGE.partition("## What happens elsewhere")[2].partition("\n##")[0]
ROWS = dict(re.findall(r"^\| (.+?) \| (all|none|the GPUs of the shell) \|", TABLE, re.MULTILINE))
SEEN = {"all": "not set\n", "none": "''\n", "the GPUs of the shell": "'1'\n"}
# What a program finds; it is quoted, so that an empty value is seen.
PROBE = (
    'if [ -n "${CUDA_VISIBLE_DEVICES+set}" ]; then echo "\'$CUDA_VISIBLE_DEVICES\'"; else echo not set; fi'
)
Place = Callable[[LoginHost], str]


@pytest.fixture
def free(login_host: LoginHost) -> Iterator[LoginHost]:
    """A host with the profile, and all GPUs free."""
    until(lambda: login_host.daemon.status().count("AVAILABLE") == 4)
    yield login_host
    login_host.daemon.run("admin", "release", "--all")


def in_login_shell(host: LoginHost, code: str) -> str:
    """Return what code prints in a login shell that has reserved GPU 1."""
    done = host.run("bash", "-l", "-c", f"chg-use --gpu-ids 1 2>/dev/null; {code}")
    assert done.returncode == 0, done
    return done.stdout


def probe_file(host: LoginHost) -> str:
    """Return the path of a program that is the probe."""
    path = host.folder / "probe"
    path.write_text(f"#!/bin/sh\n{PROBE}\n")
    path.chmod(0o755)
    return str(path)


def nohup(host: LoginHost) -> str:
    """Start it so that it outlives the shell."""
    need("nohup")
    return in_login_shell(host, f"nohup {probe_file(host)} 2>/dev/null")


def tmux(host: LoginHost, start: str, then: str) -> str:
    """Start a server within `start` and type into its new window; return what the probe prints there."""
    need("tmux")
    socket, result = host.folder / "tmux", host.folder / "tmux.out"
    result.unlink(missing_ok=True)
    tmux = f"tmux -f /dev/null -S {socket}"
    code = f"{start}{tmux} new-session -d; {then}{tmux} send-keys 'sh {probe_file(host)} > {result}.new;"
    code += f" mv {result}.new {result}' Enter"
    try:
        assert host.run("bash", "-l", "-c", code, SHELL="/bin/bash").returncode == 0
        until(result.exists, 30)
        return result.read_text()
    finally:
        host.run("sh", "-c", f"{tmux} kill-server")


def su(host: LoginHost, *options: str) -> str:
    """Become a user; here that is root again."""
    need("su")
    return in_login_shell(host, shlex.join(["su", *options, "-c", PROBE]))


def cron(host: LoginHost) -> str:
    """Let cron start it; its daemon has the variable, as a shell that restarts it has."""
    result = host.folder / "cron.out"
    new = f"{result}.new"
    return host.cron(f"sh {probe_file(host)} > {new}; mv {new} {result}", result)


PLACES: dict[str, list[Place]] = {
    "`nohup`": [nohup],
    "`tmux`, the shell that started it": [lambda host: tmux(host, "chg-use --gpu-ids 1; ", "")],
    "`tmux`, started before `chg-use`": [lambda host: tmux(host, "", "chg-use --gpu-ids 1; ")],
    "`su -`, `sudo -i`": [
        lambda host: su(host, "-"),
        lambda host: in_login_shell(host, host.sudo("-i", probe_file(host))),
    ],
    "`su`": [su],
    "`sudo`": [lambda host: in_login_shell(host, host.sudo(probe_file(host)))],
    "`ssh HOST`": [lambda host: host.ssh(typed=PROBE).stdout],
    "`ssh HOST COMMAND`": [lambda host: host.ssh(PROBE).stdout],
    "cron": [cron],
}
BOOTED = {"`systemd-run`"}  # It needs a host that systemd has booted: tests/packaging/test_booted.py has it.


@pytest.mark.parametrize("where", sorted(ROWS.keys() - BOOTED))
def test_what_a_program_sees(free: LoginHost, where: str) -> None:
    """All GPUs, none, or those of the shell, as the table says."""
    for place in PLACES[where]:
        assert place(free) == SEEN[ROWS[where]]


def test_every_row_is_read() -> None:
    """No row is missing, and the page begins with three lines to type."""
    assert ROWS.keys() == PLACES.keys() | BOOTED
    assert len(ROWS) == TABLE.count("\n| ") - 1
    assert re.match(r"# .+\n\n(    .+\n){3}\n", PAGE)


def test_sudo_can_keep_the_variable(free: LoginHost) -> None:
    """With the option in the table."""
    code = free.sudo("--preserve-env=CUDA_VISIBLE_DEVICES", probe_file(free))
    assert in_login_shell(free, code) == SEEN["the GPUs of the shell"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_prompts(free: LoginHost, shell: str) -> None:
    """Each line of the page puts the state into the prompt of its shell."""
    need(shell)
    (line,) = re.findall(rf"^    (.+?) +# {shell}$", PAGE.partition("## In a prompt")[2], re.MULTILINE)
    shown = {
        "bash": f'{line}\necho "${{PS1@P}}"',
        "zsh": f'{line}\nprint -P "$PROMPT"',
        "fish": f"{line}\nfish_right_prompt",
    }[shell]
    path = f"{free.folder}/bin:/usr/bin:/bin"
    assert free.daemon.run("reserve", "--gpu-ids", "1", "--duration", "4h").returncode == 0
    flags = {"bash": [], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    done = free.run(shell, *flags, "-c", shown, PATH=path, CUDA_VISIBLE_DEVICES="1")
    assert re.match(r"gpu:1 3h59m\b", done.stdout), done
