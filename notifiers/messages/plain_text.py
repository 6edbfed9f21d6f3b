"""Renders a notice as text: its subject, its headline, its lines. Terminals, mail and chat share this."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from canhazgpu.events.notices import Notice
from canhazgpu.events.sanitize import printable
from canhazgpu.notifiers.messages.content import Commands, Content, Part, Sentence, Table, Use, Uses
from canhazgpu.notifiers.messages.describe import describe
from canhazgpu.notifiers.messages.phrases import safe_text

QUESTIONS = "Questions: "  # The start of the last line, if a contact is configured.


def subject(notice: Notice) -> str:
    """Return the subject line: the host, what happened, and the GPUs."""
    return f"[canhazgpu {printable(notice.host)}] {describe(notice).subject}"


def headline(notice: Notice) -> str:
    """Return the first line, which ends with the id of the notice in brackets."""
    return _headline(notice, describe(notice))


def lines(notice: Notice) -> list[str]:
    """Return the whole notice as lines without control characters, the most important ones first.

    The wording depends on the audience. The contact line, which starts with QUESTIONS, comes last.
    """
    content = describe(notice)
    body = [line for part in content.parts for line in _lines(part)]
    return [_headline(notice, content), *body, *contact(notice)]


def contact(notice: Notice) -> list[str]:
    """Return the contact line, if a contact is configured."""
    asked = safe_text(notice.contact)
    return [QUESTIONS + asked] if asked else []


def _headline(notice: Notice, content: Content) -> str:
    return f"canhazgpu on {printable(notice.host)}: {content.headline} [{printable(notice.notice)}]"


def _lines(part: Part) -> Iterable[str]:
    return _KINDS[type(part)](part)


def _sentence(part: Sentence) -> Iterator[str]:
    yield part.text


def _commands(part: Commands) -> Iterator[str]:
    if part.title:
        yield part.title
    indent = "  " if part.title else ""
    yield from (f"{indent}{purpose}: {command}" for purpose, command in part.rows)


def _uses(part: Uses) -> Iterator[str]:
    if part.rows:
        yield part.title
    for use in part.rows:
        yield from _ended(use) if use.until else _lasting(use)


def _where(use: Use) -> str:
    held = f", reserved by {use.holder}" if use.holder else ""
    return f"  GPU {use.gpu} ({use.model}{held}), {use.violation}"


def _lasting(use: Use) -> Iterator[str]:
    yield f"{_where(use)}: {use.memory + ' ' if use.memory else ''}used since {use.since} by"
    for process in use.processes:
        inside = f" in {process.inside}" if process.inside else ""
        yield f"    PID {process.pid} ({process.name}), {process.memory}{inside}"
    if use.more:
        yield f"    and {use.more} more"
    if not use.processes:
        yield "    no visible process"


def _ended(use: Use) -> Iterator[str]:
    lasted = f" ({use.lasted})" if use.lasted else ""
    peak = f", peak {use.memory}" if use.memory else ""
    yield f"{_where(use)}: {use.since} to {use.until}{lasted}{peak}; {use.end}"


def _table(part: Table) -> Iterator[str]:
    yield part.title
    rows: list[Sequence[str]] = [
        *([[name.upper() for name in part.columns]] if part.columns else []),
        *part.rows,
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


_KINDS: dict[type, Callable[..., Iterable[str]]] = {
    Sentence: _sentence,
    Commands: _commands,
    Uses: _uses,
    Table: _table,
}
