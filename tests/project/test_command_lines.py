"""Every command line of README.md and docs/*.md has its place where it is executed, or a reason why not."""

from support.command_lines import all_lines
from support.documented_lines import (
    AFTER,
    BEFORE,
    BEFORE_IN,
    BY_ROOT,
    CODES,
    EXEMPT,
    SITUATIONS,
    without_comment,
)

from canhazgpu.cli.commands import COMMANDS, build

FEWEST = 150


def test_every_line_has_its_place() -> None:
    """Each line is typed by tests/packaging/test_documented_lines.py, or is exempt and has a reason."""
    found = [line for line in all_lines() if not line.is_name]
    assert len(found) > FEWEST
    nowhere = [
        f"{line.page}, {line.heading}: {line.text}"
        for line in found
        if without_comment(line.text) not in EXEMPT and (line.page, line.heading) not in SITUATIONS
    ]
    assert nowhere == []


def test_the_tables_are_about_lines_that_exist() -> None:
    """No heading, no exemption, no preparation and no exit code is left over from a line that is gone."""
    found = [line for line in all_lines() if not line.is_name]
    places = {(line.page, line.heading) for line in found}
    texts = {line.text for line in found}
    assert set(SITUATIONS) - places == set()
    assert set(EXEMPT) - {without_comment(text) for text in texts} == set()
    assert {*BEFORE, *AFTER, *BY_ROOT, *CODES} - texts == set()
    assert set(BEFORE_IN) - {(line.page, line.heading, line.text) for line in found} == set()


def test_names_in_sentences_are_commands() -> None:
    """Where a sentence only names a command, the command exists."""
    app = build(*COMMANDS)
    known = {command.name for command in app.registered_commands}
    for group in app.registered_groups:
        inner = group.typer_instance
        assert inner is not None
        known |= {group.name, *(f"{group.name} {command.name}" for command in inner.registered_commands)}
    named = {line.text.partition("canhazgpu ")[2] for line in all_lines() if line.is_name}
    assert named - known == set()
