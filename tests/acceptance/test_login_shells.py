"""`canhazgpu install profile`: login shells see no GPU until something is reserved, with `chg-use`."""

import re
from collections.abc import Iterator

import pytest
from support.daemon import until
from support.login_host import LoginHost, login_host
from support.programs import need

__all__ = ["login_host"]
VARIABLE = "CUDA_VISIBLE_DEVICES"
SHOW = f"env | grep ^{VARIABLE}="
SHELLS = {
    "bash": ["bash", "-l", "-c"],
    "zsh": ["zsh", "-l", "-c"],
    "fish": ["fish", "-l", "-c"],
    "dash": ["dash", "-l", "-c"],
}


@pytest.fixture
def free(login_host: LoginHost) -> Iterator[LoginHost]:
    """That host, with all GPUs free."""
    until(lambda: login_host.daemon.status().count("AVAILABLE") == 4)
    yield login_host
    login_host.daemon.run("admin", "release", "--all")


def use(shell: str) -> str:
    """Return how `chg-use` is called in a script: dash reads no aliases on the line that defines them."""
    return "chg_use" if shell == "dash" else "chg-use"


def path_of(host: LoginHost, shell: str) -> dict[str, str]:
    """Return the variables that let fish find the command: it does not read /etc/profile."""
    return {"PATH": f"{host.folder}/bin:/usr/bin:/bin"} if shell == "fish" else {}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_login_shell_sees_no_gpu(free: LoginHost, shell: str) -> None:
    """The variable is empty, `check` agrees, and the prompt stays as it is."""
    need(shell)
    code = f"{SHOW}; canhazgpu check --short; canhazgpu check"
    done = free.run(*SHELLS[shell], code, **path_of(free, shell))
    said = f"{VARIABLE}=\nNo GPU is visible: {VARIABLE} is empty\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, said, "")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_value_that_is_there_is_kept(free: LoginHost, shell: str) -> None:
    """Who logs in within a reservation, or has set the variable, keeps it."""
    need(shell)
    done = free.run(*SHELLS[shell], SHOW, **path_of(free, shell), CUDA_VISIBLE_DEVICES="2")
    assert (done.stdout, done.stderr) == (f"{VARIABLE}=2\n", "")


@pytest.mark.parametrize("shell", SHELLS)
def test_chg_use_reserves_and_exports(free: LoginHost, shell: str) -> None:
    """With the options of `reserve`; without any, another shell gets what is held, and no second GPU."""
    need(shell)
    code = f"{use(shell)} --gpu-ids 1 --duration 1h; {SHOW}; canhazgpu check --quiet; and echo yes"
    code = code if shell == "fish" else code.replace("; and", " &&")
    done = free.run(*SHELLS[shell], code, **path_of(free, shell))
    assert (done.stdout, done.stderr.count("\n")) == (f"{VARIABLE}=1\nyes\n", 1), done
    again = free.run(*SHELLS[shell], f"{use(shell)}; {SHOW}", **path_of(free, shell))
    assert (again.stdout, again.stderr[:21]) == (f"{VARIABLE}=1\n", "You hold 1 GPU(s): [1")
    assert free.daemon.status().count("AVAILABLE") == 3


@pytest.mark.parametrize("shell", SHELLS)
def test_chg_use_reserves_one_if_nothing_is_held(free: LoginHost, shell: str) -> None:
    """The default of `reserve`."""
    need(shell)
    done = free.run(*SHELLS[shell], f"{use(shell)}; {SHOW}", **path_of(free, shell))
    assert done.stdout in {f"{VARIABLE}={gpu}\n" for gpu in range(4)}, done


@pytest.mark.parametrize("shell", SHELLS)
def test_a_refused_chg_use_changes_nothing(free: LoginHost, shell: str) -> None:
    """It fails with the code of `reserve`, so that `chg-use && train` does not train on others' GPUs."""
    need(shell)
    code = f"{use(shell)} --gpus 9 --nonblock || echo no; {SHOW}"
    code = code if shell == "fish" else f"set -u; {code}"
    done = free.run(*SHELLS[shell], code, **path_of(free, shell))
    assert (done.stdout, done.stderr.count("\n")) == (f"no\n{VARIABLE}=\n", 1), done


def test_it_may_be_read_twice_and_in_posix_mode(free: LoginHost) -> None:
    """From ~/.bashrc too, under `set -eu`, and by shells that allow no dash in the name of a function."""
    twice = f"set -eu; . /etc/profile.d/canhazgpu.sh; . /etc/profile.d/canhazgpu.sh; {SHOW}"
    for words in (["bash"], ["bash", "--posix"], ["sh"], ["busybox", "sh"]):
        need(words[0])
        done = free.run(*words, "-c", twice)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{VARIABLE}=\n", ""), words
    alias = "shopt -s expand_aliases; . /etc/profile.d/canhazgpu.sh\nPATH=$PATH:bin\nchg-use && " + SHOW
    assert re.search(rf"^{VARIABLE}=\d$", free.run("bash", "--posix", "-c", alias).stdout, re.MULTILINE)
