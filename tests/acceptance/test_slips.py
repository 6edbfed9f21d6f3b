"""Slips on the command line: each is named where it was made, ends with 2, and changes nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.daemon import COMMAND, Daemon, gpu, until
from support.exit_codes import code_of

LONG = "n" * 70
NO_GPU = "there is no GPU 99"
SCRIPTS = Path(sys.executable).parent


@pytest.fixture
def nowhere(folder: Path) -> Daemon:
    """A host whose service does not run."""
    return Daemon(folder)


def error(host: Daemon, *words: str) -> str:
    """Return the one line with which a command that is misused ends."""
    done = host.run(*words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code_of(words, 2), "", 1), done
    return done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("reserve", "--gpus", "1_0"), "--gpus"),
        (("reserve", "--gpus", " 1"), "--gpus"),
        (("reserve", "--gpus", "\u0661"), "--gpus"),
        (("admin", "init", "--gpus", "1_0"), "--gpus"),
        (("reserve", "--duration", "\u0663h"), "--duration: "),
        (("reserve", "--wait", "abc"), "--wait: 'abc' is not a duration"),
        (("reserve", "--wait", "-5m"), "--wait: '-5m' is not a duration"),
        (("reserve", "-w", "abc"), "--wait: 'abc' is not a duration"),
        (("reserve", "--wait", ""), "'--wait' / '-w': the value is empty"),
        (("run", "--wait", "abc", "--", "true"), "--wait: 'abc' is not a duration"),
        (("run", "--wait", "-5m", "--", "true"), "--wait: '-5m' is not a duration"),
        (("run", "--wait", "python", "train.py"), "put -- directly before the command"),
        (("reserve", "--gpu-ids", "9999"), "--gpu-ids: there is no GPU 9999 (`canhazgpu status` lists them)"),
        (("release", "0-9999"), "GPUS: there is no GPU 9999 (`canhazgpu status` lists them)"),
        (("cancel", "\udcff"), "the value is not valid UTF-8: canhazgpu shows it as '\\xff'"),
        (("report", "--since", "soon"), "--since: 'soon' is not a duration"),
        (("report", "--since", "1h", "--until", "2h"), "--since is not before --until"),
        (("report", "--days", "1", "--until", "2d"), "--days is not before --until"),
        (("report", "--days", "99999"), "--days: 99999 is out of range: use 1 to 36500"),
        (("history", "--since", "99999w"), "--since: '99999w' is longer than a hundred years\n"),
        (("violations", "show", ""), "'' is not the id of a violation"),
        (
            ("violations", "show", "v"),
            "v is not the id of a violation, such as v1764061802123-17 or its begin",
        ),
        (("violations", "show", "17"), "; `canhazgpu violations` shows the ids"),
        (("violations", "show"), "which one? `canhazgpu violations` shows the ids"),
        (("silence", "expire", "s"), "s is not the id of a silence, such as s1764000000000-7"),
        (("silence", "expire"), "which one? `canhazgpu silence list` shows the ids"),
        (("deadletters", "replay", "x"), "x is not the id of a dead letter, such as 1764000000000-0"),
        (("extend", "3", "2"), "'2' has no unit: `canhazgpu extend 3 2h`, or `canhazgpu extend 3,2` for"),
        (("extend", "0", "1", "2"), "`canhazgpu extend 0 1 2h`, or `canhazgpu extend 0,1,2` for these GPUs"),
        (("extend", "2h", "3"), "the time comes last: canhazgpu extend 3 2h"),
        (("extend", "0", "soon"), "TIME: 'soon' is not a duration"),
        (("extend", "soon"), "'soon' is neither GPUs nor a time: canhazgpu extend 3 2h"),
        (("extend", "1,1"), "GPUS: 1,1 names a GPU twice"),
        (("extend", "-1h"), "-1h: a reservation cannot be made shorter; `canhazgpu release` ends it now"),
        (("extend", "0", "-1h"), "-1h: a reservation cannot be made shorter"),
        (("run", "--config"), "--config needs the name of a settings file after it"),
        (("run", "--config", "--", "true"), "--config needs the name of a settings file after it"),
        (("status", "--config"), "--config needs the name of a settings file after it"),
        (("reserve", "--config", "-d", "2h"), "--config needs the name of a settings file after it"),
        (("admin", "drain", "a"), "GPUS: 'a' is not a list of GPUs"),
        (("admin", "undrain", "1,1"), "GPUS: 1,1 names a GPU twice"),
        (("reserve", "--user", LONG), "'--user' / '-u': it has 70 characters; the limit is 64"),
        (("run", "--user", LONG, "--", "true"), "'--user' / '-u': it has 70 characters; the limit is 64"),
        (("reserve", "--note", "n" * 201), "'--note' / '-n': it has 201 characters; the limit is 200"),
        (("admin", "drain", "1", "--reason", "n" * 201), "it has 201 characters; the limit is 200"),
        (("admin", "release", "--user", LONG), "'--user' / '-u': it has 70 characters; the limit is 64"),
        (("deadletters", "replay", "\u0661-1"), "is not the id of a dead letter"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_a_slip_is_named(nowhere: Daemon, words: tuple[str, ...], said: str) -> None:
    """A mistyped option or argument is named before the service is asked."""
    assert said in error(nowhere, *words)


@pytest.mark.parametrize("name", ["", " "])
def test_a_command_without_a_name(nowhere: Daemon, name: str) -> None:
    """An empty command name is reported in quotes, and nothing is reserved."""
    done = nowhere.run("run", "--", name)
    said = f"Error: '{name}': command not found; nothing was reserved\n"
    assert (done.returncode, done.stderr) == (127, said)


def test_a_gpu_that_is_not_there(host: Daemon) -> None:
    """A GPU that does not exist is a usage error; one that is not reserved is refused with 1."""
    host.place(gpu(0), gpu(1))
    until(lambda: "GPU 1: AVAILABLE" in host.status())
    assert host.run("reserve", "--gpu-ids", "0").returncode == 0
    for words in (["reserve"], ["release"], ["extend"], ["admin", "release"], ["admin", "drain"]):
        for ids in ("99", "0,99", "1,99"):
            named = [ids] if words[-1] == "drain" else ["--gpu-ids", ids]
            assert NO_GPU in error(host, *words, *named), (words, ids)
    said = error(host, "reserve", "--gpu-ids", "0-1023")
    assert "there is no GPU 2-1023 on this host, or it is not managed" in said
    assert "GPU 0: IN USE by root for" in host.status()
    for words in (["release"], ["extend"], ["admin", "release"]):
        done = host.run(*words, "--gpu-ids", "1")
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), words


@pytest.mark.parametrize("name", ["canhazgpu", "chg"])
def test_both_names_speak_for_themselves(nowhere: Daemon, name: str) -> None:
    """Completion and usage have the name by which the command was called."""
    variable = f"_{name.upper()}_COMPLETE"

    def says(*words: str, **more: str) -> "subprocess.CompletedProcess[str]":
        environment = {**nowhere.environment, **more}
        return subprocess.run(
            [SCRIPTS / name, *words], env=environment, capture_output=True, text=True, check=False
        )

    assert f"complete -F _{name}_completion {name}\n" in says(**{variable: "source_bash"}).stdout
    for shell in ("zsh", "fish"):
        assert f"{variable}=complete_fish" in says(**{variable: f"source_{shell}"}).stdout
    asked = {variable: "complete_bash", "COMP_WORDS": f"{name} vio", "COMP_CWORD": "1"}
    assert says(**asked).stdout.split() == ["violations"]
    assert says("reserve", "--help").stdout.startswith(f"Usage: {name} reserve ")
    assert f"(see `{name} reserve --help`)" in says("reserve", "--frobnicate").stderr


def test_another_name_is_canhazgpu(nowhere: Daemon) -> None:
    """Under another name, the command calls itself canhazgpu."""
    done = subprocess.run(
        [*COMMAND, "--help"], env={**os.environ, **nowhere.environment}, capture_output=True, check=True
    )
    assert done.stdout.startswith(b"Usage: canhazgpu ")
