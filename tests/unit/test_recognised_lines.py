"""Command lines that are recognised without the framework mean what the framework says they mean."""

import importlib
import inspect
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

from canhazgpu.cli import commands
from canhazgpu.cli.recognition import known_options
from canhazgpu.cli.recognition.option_table import OFTEN, table
from canhazgpu.cli.recognition.recognise import recognise

NAMES = [name for name in OFTEN if name in commands.COMMANDS]
CALLED: list[tuple[str, dict[str, Any]]] = []
VALUES = [
    "1",
    "3",
    "0-3",
    "1,3",
    "30m",
    "2h",
    "2 days",
    "all",
    "bash",
    "zsh",
    "forever",
    "a note",
    "ü",
    "GPU-8f",
    "memory",
    "r1796017013625-8",
]
STRANGE = [
    "",
    " ",
    "-",
    "--",
    "-1",
    "-x",
    "1_0",
    "\u0663",
    "\ud800",
    "x" * 65,
    "x" * 300,
    "=",
    "a=b",
    "--h",
    "-h",
]
WORDS = st.sampled_from(VALUES + STRANGE)


def _function(name: str) -> Callable[..., Any]:
    home, attribute, _ = commands.COMMANDS[name]
    found: Callable[..., Any] = getattr(importlib.import_module(f"canhazgpu.cli.{home}"), attribute)
    return found


def _bound(function: Callable[..., Any], given: dict[str, Any]) -> dict[str, Any]:
    bound = inspect.signature(function).bind(**given)
    bound.apply_defaults()
    return {name: list(one) if isinstance(one, tuple) else one for name, one in bound.arguments.items()}


@cache
def _framework() -> Any:
    """Return the framework's command line, whose functions only note how they were called."""
    commands.build(*NAMES)  # Evaluates the annotations of the functions.
    with pytest.MonkeyPatch.context() as patch:
        for name in NAMES:
            function = _function(name)

            @wraps(function)
            def noted(*, function: Callable[..., Any] = function, **given: Any) -> None:
                given.pop("context", None)  # Only the framework has one.
                CALLED.append((function.__qualname__, _bound(function, given)))

            home, attribute, _ = commands.COMMANDS[name]
            patch.setattr(f"canhazgpu.cli.{home}.{attribute}", noted)
        return typer.main.get_command(commands.build(*NAMES))


def _options(name: str) -> list[Any]:
    return [one for one in _framework().commands[name].params if one.param_type_name == "option"]


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    """Return a command line: options as they are defined, with or without values, arguments, and mistakes."""
    name = draw(st.sampled_from(NAMES))
    words = [name]
    for _ in range(draw(st.integers(0, 4))):
        option = draw(st.sampled_from(_options(name)))
        spelled = draw(st.sampled_from([*option.opts, *option.secondary_opts]))
        form = draw(st.sampled_from(["{0} {1}"] * 5 + ["{0}={1}", "{0}{1}", "{0}", "{2} {1}", "{1}"]))
        if option.is_flag:
            form = draw(st.sampled_from(["{0}"] * 4 + ["{0}={1}"]))
        value = draw(st.sampled_from(VALUES) if draw(st.integers(0, 3)) else WORDS)
        words += [word.format(spelled, value, spelled[:-1]) for word in form.split(" ")]
    if draw(st.booleans()) if name != "run" else draw(st.integers(0, 9)):
        words += ["--"] if name == "run" or (name == "check" and draw(st.booleans())) else []
        words += draw(st.lists(WORDS | st.sampled_from(["true", "--gpus", "--wait"]), max_size=3))
    return words


@settings(max_examples=500)
@given(lines())
def test_both_understand_the_same(words: list[str]) -> None:
    """What is recognised without the framework calls the same function with the same arguments."""
    found = recognise(words)
    if found is None:
        return
    module, attribute, given = found
    function = getattr(importlib.import_module(module), attribute)
    command = _framework()
    CALLED.clear()
    spelled = commands._wait_alone(list(words), command)  # noqa: SLF001 - what `run` makes of the words
    command.main(spelled, prog_name="canhazgpu", standalone_mode=False)
    ((called, arguments),) = CALLED
    assert (called, repr(arguments)) == (function.__qualname__, repr(_bound(function, given)))


@pytest.mark.parametrize(
    "line",
    [
        "status",
        "status --json",
        "status --no-color",
        "status --long --sort memory",
        "status -l --user=bob",
        "status --long --mine --watch",
        "run -- true",
        "run -d 8h -u ann -- ./job.sh",
        "run -g 2 --wait -- python train.py --wait -x",
        "run --gpus=2 --wait 30m --note x -- a -- b",
        "reserve",
        "reserve --gpus 1 --duration 4h",
        "reserve --gpu-ids 1,3 --wait 30m --note deadline --json",
        "reserve -g 1 --short --wait",
        "extend",
        "extend --duration 2h --gpu-ids 1",
        "extend 3 2h",
        "extend 2 days --json",
        "release",
        "release 3",
        "release 0-2,GPU-8f --json",
        "release 1 3",
        "release --gpu-ids 3",
        "release --all --json",
        "queue",
        "queue --json",
        "env",
        "env --gpu-ids 1 --shell bash",
        "env 1 --shell fish",
        "check",
        "check --short",
        "check --exec --quiet -- python train.py --json",
        "cancel",
        "cancel r1796017013625-8 --json",
        "cancel --user bob --all",
    ],
)
def test_usual_lines_are_recognised(line: str) -> None:
    """The lines of the help's examples need no framework."""
    assert recognise(line.split(" "))


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["demo"],
        ["reserve", "--help"],
        ["reserve", "-h"],
        ["reserve", "--gpu", "1"],
        ["reserve", "--gpus"],
        ["reserve", "--gpus", "x"],
        ["reserve", "--gpus", "-1"],
        ["reserve", "-g1"],
        ["reserve", "-g=1"],
        ["reserve", "--gpus", "1", "-g", "2"],
        ["reserve", "--short=1"],
        ["reserve", "--note", ""],
        ["reserve", "--note", "x" * 300],
        ["reserve", "--wait", "-1"],
        ["reserve", "--shell", "tcl"],
        ["status", "extra"],
        ["status", "--", "extra"],
        ["release", "--", "3"],
        ["release", "-3"],
        ["status", "--user", ""],
        ["status", "--lon"],
        ["cancel", "--user", "x" * 65],
        ["check", "true"],
        ["check", "true", "--exec", "--", "true"],
        ["run", "true"],
        ["run", "--gpus", "1", "true", "--", "true"],
    ],
)
def test_what_has_to_be_explained_is_the_frameworks(words: list[str]) -> None:
    """Help, mistakes, abbreviations, and what could be read in two ways."""
    assert recognise(words) is None


@pytest.mark.parametrize("variable", ["_CANHAZGPU_COMPLETE", "_CHG_COMPLETE"])
def test_completion_is_the_frameworks(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """A shell asks for it with a variable, beside a usual command line."""
    monkeypatch.setenv(variable, "complete_bash")
    assert recognise(["status"]) is None


def test_the_table_is_generated() -> None:
    """The table is what the definitions say; CONTRIBUTING.md has the command that writes it."""
    assert Path(inspect.getfile(known_options)).read_text() == table()


def test_every_command_that_starts_often_is_known() -> None:
    """No definition is so unusual that its command always needs the framework."""
    assert set(known_options.COMMANDS) == set(NAMES)
