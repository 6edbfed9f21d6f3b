"""What `reserve` and `env` print for a shell, evaluated in the real shells."""

import os
import pty
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import COMMAND, Daemon, until
from support.people import Person
from support.programs import need
from support.terminals import read_all

CHG = " ".join(COMMAND)
PAGE = (Path(__file__).parents[2] / "docs" / "users.md").read_text()
TABLE = PAGE.partition("| shell | reserve and use |")[2].partition("\n\n")[0]
ROWS = re.findall(r"^\| ([a-z, ]+) \| `+(.+?)`+ \| `+(.+?)`+ \|$", TABLE, re.MULTILINE)
SAFE = [
    (shell, reserve, env)
    for shells, reserve, env in ROWS
    for shell in shells.replace("tcsh", "csh").split(", ")
]
SHOW = "env | grep -E '^(CUDA|CANHAZGPU_RES)' | sort"
ONE_GPU = re.compile(r"CUDA_VISIBLE_DEVICES=\d\n")
# The idiom of each shell; the program that runs it is the name, or csh's other name.
IDIOMS = {
    "bash": 'eval "$({})"',
    "zsh": 'eval "$({})"',
    "dash": 'eval "$({})"',
    "fish": "{} | source",
    "csh": "eval `{}`",
}
MORE = [("fish", "eval ({})"), ("bash", "source <({})"), ("tcsh", "eval `{}`")]


@pytest.fixture
def free(lasting_host: Daemon) -> Iterator[Daemon]:
    """A host whose GPUs are all free."""
    until(lambda: lasting_host.status().count("AVAILABLE") == 4)
    yield lasting_host
    lasting_host.run("admin", "release", "--all")


def typed(host: Daemon, shell: str, script: str) -> "subprocess.CompletedProcess[str]":
    """Run a script in a shell, where $SHELL names no shell."""
    need(shell)
    flags = ["-f"] if shell in ("csh", "tcsh", "zsh") else ["--no-config"] if shell == "fish" else []
    return subprocess.run(
        [shell, *flags, "-c", script],
        env={**host.environment, "SHELL": "/bin/false", "HOME": str(host.folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(("shell", "idiom"), [*IDIOMS.items(), *MORE])
def test_the_idiom_sets_the_variables(free: Daemon, shell: str, idiom: str) -> None:
    """In every shell, found by itself: the GPUs and the reservation, and the sentence out of the way."""
    done = typed(free, shell, f"{idiom.format(f'{CHG} reserve --gpu-ids 0,2 --duration 4h')}; {SHOW}")
    assert done.returncode == 0, done
    assert done.stderr == "Reserved 2 GPU(s): [0, 2] for 4h 0m 0s\n"
    name, order, devices = done.stdout.splitlines()
    assert name.startswith("CANHAZGPU_RESERVATION=r")
    assert (order, devices) == ("CUDA_DEVICE_ORDER=PCI_BUS_ID", "CUDA_VISIBLE_DEVICES=0,2")
    again = typed(free, shell, f"{idiom.format(f'{CHG} env')}; {SHOW}")
    assert again.stdout == done.stdout
    assert again.stderr.startswith("You hold 2 GPU(s): [0, 2] for 3h 59m ")


@pytest.mark.parametrize(("shell", "reserve", "env"), SAFE)
def test_the_table_of_the_page(free: Daemon, shell: str, reserve: str, env: str) -> None:
    """Each line sets the variables; after a refusal it fails, so that nothing runs without GPUs."""
    for line in (reserve, env):
        done = typed(free, shell, f"{line.replace('canhazgpu', CHG)} && {SHOW}")
        assert ONE_GPU.search(done.stdout), done
    free.run("release")
    assert free.run("reserve", "--gpus", "4", "--duration", "1h").returncode == 0
    done = typed(free, shell, f"{reserve.replace('canhazgpu', CHG)} && echo went on")
    assert (done.stdout, done.stderr.count("\n")) == ("", 1), done
    free.run("release")
    done = typed(free, shell, f"{env.replace('canhazgpu', CHG)} && echo went on")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done


def test_the_page_has_every_shell() -> None:
    """No shell is missing in the table."""
    assert {shell for shell, *_ in SAFE} == {"bash", "zsh", "fish", "csh"}


@pytest.mark.parametrize("shell", IDIOMS)
def test_a_shell_can_be_named(free: Daemon, shell: str) -> None:
    """--shell wins over what is found: the code is written in one shell and read in another."""
    if shell == "dash":
        return
    path = free.folder / "code"
    done = typed(free, "bash", f"{CHG} reserve --shell {shell} > {path}")
    assert done.returncode == 0, done
    done = typed(free, shell, f"source {path}; {SHOW}")
    assert ONE_GPU.search(done.stdout)


def test_without_a_shell_as_parent_the_login_shell_counts(free: Daemon) -> None:
    """A program that starts it tells nothing; an unknown login shell gets what most shells read."""
    for login, first in (("/usr/bin/fish", "set -gx "), ("/bin/tcsh", "setenv "), ("/bin/nosuch", "export ")):
        done = subprocess.run(
            [*COMMAND, "reserve"],
            env={**free.environment, "SHELL": login},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.startswith(f"{first}CUDA_VISIBLE_DEVICES"), done


def test_on_a_terminal_both_are_on_standard_output(free: Daemon) -> None:
    """Somebody who reads it sees the sentence and the lines to copy together."""
    master, slave = pty.openpty()
    words = [*COMMAND, "reserve", "--shell", "bash"]
    done = subprocess.run(words, env=free.environment, stdout=slave, stderr=subprocess.PIPE, check=True)
    os.close(slave)
    text = read_all(master).decode().replace("\r", "")
    assert done.stderr == b""
    assert re.match(r"Reserved 1 GPU\(s\): \[(\d)\] for 8h 0m 0s\nexport CUDA_VISIBLE_DEVICES=\1\n", text)


def test_env_joins_what_was_reserved_apart(free: Daemon) -> None:
    """All manual reservations together, without the name of one of them; or those that are named."""
    for gpus in ("0", "2"):
        free.run("reserve", "--gpu-ids", gpus)
    script = f'export CANHAZGPU_RESERVATION=r0-0; eval "$({CHG} env)"; {SHOW}'
    assert typed(free, "bash", script).stdout == "CUDA_DEVICE_ORDER=PCI_BUS_ID\nCUDA_VISIBLE_DEVICES=0,2\n"
    one = free.run("env", "--gpu-ids", "2", "--shell", "bash").stdout
    assert one.startswith("export CUDA_VISIBLE_DEVICES=2\n")
    assert "CANHAZGPU_RESERVATION=r" in one


def test_env_shows_only_ones_own(free: Daemon, people: list[Person]) -> None:
    """What another holds is refused, on one line, with nothing to evaluate."""
    alice, bob = people
    assert free.run("reserve", "--gpu-ids", "1", person=alice).returncode == 0
    assert "CUDA_VISIBLE_DEVICES=1\n" in free.run("env", "--shell", "zsh", person=alice).stdout
    for words in (("env",), ("env", "--gpu-ids", "1")):
        done = free.run(*words, person=bob)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done
    assert free.run("env", "--json", person=bob).stdout == "[]\n"


def test_an_unknown_shell_is_a_usage_error(free: Daemon) -> None:
    """Nothing is reserved for a shell whose syntax is not known."""
    done = free.run("reserve", "--shell", "elvish")
    assert (done.returncode, done.stdout) == (2, "")
    assert "bash, zsh, fish, csh" in done.stderr
    assert "IN USE" not in free.status()
