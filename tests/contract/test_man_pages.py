"""The man pages: one for each command, with everything that the command accepts, and good troff."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from support.programs import need

from canhazgpu.cli import man
from canhazgpu.cli.commands import COMMANDS, build
from canhazgpu.cli.exit_codes import MEANINGS, RUN_MEANINGS


def _commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        if not inner.hidden:
            yield from _commands(inner, f"{path}-{name}")


TREE = dict(_commands(typer.main.get_command(build(*COMMANDS)), "canhazgpu"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the module wrote the pages into, called as the packaging calls it."""
    folder = tmp_path_factory.mktemp("man") / "man1"
    subprocess.run([sys.executable, "-m", "canhazgpu.cli.man", str(folder)], check=True)
    return folder


def _entries(page: str) -> set[str]:
    """Return the words that stand at the head of the entries of a page, as a reader sees them."""
    heads = re.findall(r"^\.TP\n(.+)$", page, re.MULTILINE)
    return {word for head in heads for word in re.split("[ ,/]+", re.sub(r"\\f.|\\", "", head))}


def test_every_command_has_a_page(folder: Path) -> None:
    """Also the commands in a group; and `chg` is the page of `canhazgpu`."""
    assert {path.stem for path in folder.glob("*.1")} == {*TREE, "chg"}
    assert (folder / "chg.1").readlink() == Path("canhazgpu.1")


@pytest.mark.parametrize("name", TREE)
def test_every_option_argument_and_command_has_an_entry(folder: Path, name: str) -> None:
    """What the parser accepts, the page lists; a page of a group lists the commands in it."""
    entries = _entries((folder / f"{name}.1").read_text())
    command = TREE[name]
    for parameter in command.params:
        if parameter.param_type_name == "option" and parameter.hidden:
            assert not {*parameter.opts} & entries, "the help does not show it either"
        elif parameter.param_type_name == "option":
            assert {*parameter.opts, *parameter.secondary_opts} <= entries
        else:
            words = {word.strip("[].") for word in (parameter.metavar or parameter.name).split()}
            assert words <= {entry.strip("[].") for entry in entries}
    assert {"-h", "--help"} <= entries
    assert {f"{name}-{inner}(1)" for inner in getattr(command, "commands", {})} <= entries


@pytest.mark.parametrize("name", TREE)
def test_every_page_has_the_examples_and_the_exit_codes_of_the_help(folder: Path, name: str) -> None:
    """The lines of the examples are kept as they are, and every page says what the exit codes mean."""
    page = (folder / f"{name}.1").read_text().replace("\\-", "-").replace("\\(aq", "'")
    examples = re.findall(r"^  (canhazgpu .+)$", TREE[name].epilog or "", re.MULTILINE)
    assert examples
    assert all(f"\n{line}\n".replace("\\", "\\e") in page for line in examples)
    meanings = RUN_MEANINGS if name == "canhazgpu-run" else MEANINGS
    section = page.partition(".SH EXIT STATUS\n")[2].partition(".SH")[0]
    listed = re.findall(r"^\.TP\n\\fB(\d+)\\fR\n([^.]*)$", section, re.MULTILINE)
    assert {int(code): " ".join(text.split()) for code, text in listed} == meanings


def test_the_formatters_find_nothing_to_complain_about(folder: Path) -> None:
    """Neither mandoc nor man, which Debian's checks use, has a warning."""
    need("mandoc")
    need("man")
    pages = sorted(folder.glob("*.1"))
    linted = subprocess.run(["mandoc", "-Tlint", *pages], capture_output=True, text=True, check=False)
    assert linted.stdout + linted.stderr == ""
    for page in pages:
        words = ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(page)]
        shown = subprocess.run(
            words, capture_output=True, text=True, check=True, env={**os.environ, "MANROFFSEQ": ""}
        )
        assert shown.stderr == "", page


def test_whatis_knows_every_command(folder: Path) -> None:
    """The NAME line of each page is one that the index of `man -k` is made of."""
    need("lexgrog")
    for name, command in TREE.items():
        read = subprocess.run(["lexgrog", folder / f"{name}.1"], capture_output=True, text=True, check=True)
        summary = command.get_short_help_str(limit=1000).rstrip(".").replace("`", "")
        assert f'"{name} - {summary}"' in read.stdout


def test_text_is_printed_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words that troff takes for its own, quotes, dashes and other scripts come out as they were written."""
    need("man")
    text = ".TH is \\fBno\\fR request, 'it is' -- a^b ~c é ü 中; see `status --json`"
    app = typer.Typer(rich_markup_mode=None)

    def odd() -> None: ...

    odd.__doc__ = text
    app.command("odd", epilog="\b\nExamples:\n  .sp \\n '{}' | x\n\n\b\nExit codes:\n  0  success")(odd)
    monkeypatch.setattr(man, "build", lambda *_: app)
    page = tmp_path / "canhazgpu.1"
    page.write_text(man.pages()["canhazgpu.1"])
    shown = subprocess.run(
        ["man", "-E", "UTF-8", "-l", page],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "MANWIDTH": "160", "LC_ALL": "C.UTF-8"},
    ).stdout
    assert text.replace("`", "") in shown
    assert "  .sp \\n '{}' | x\n" in shown


def test_the_same_release_gives_the_same_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """The date of a page is that of the release, not of the build."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert '"1970-01-02"' in man.pages()["canhazgpu-run.1"].splitlines()[0]


@pytest.mark.parametrize("words", [[], ["--help"], ["a", "b"]])
def test_a_wrong_call_says_how_it_is_called(words: list[str]) -> None:
    """One line, and nothing is written."""
    called = subprocess.run(
        [sys.executable, "-m", "canhazgpu.cli.man", *words], capture_output=True, text=True, check=False
    )
    assert (called.returncode, called.stderr) == (1, "usage: python -m canhazgpu.cli.man DIR\n")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """The error is one line."""
    (tmp_path / "file").touch()
    called = subprocess.run(
        [sys.executable, "-m", "canhazgpu.cli.man", tmp_path / "file"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert called.returncode == 1
    assert called.stderr == f"Error: {tmp_path / 'file'}: File exists\n"
