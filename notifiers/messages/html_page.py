"""Renders a notice as an HTML page for mail: one document without external resources or scripts.

It uses the reader's own colours, so it is readable in dark mode. It has the same order as the text.
"""

import re
from collections.abc import Callable, Iterable
from html import escape

from canhazgpu.events.notices import Notice
from canhazgpu.events.sanitize import printable
from canhazgpu.notifiers.messages.content import Commands, Part, Process, Sentence, Table, Use, Uses
from canhazgpu.notifiers.messages.describe import describe
from canhazgpu.notifiers.messages.phrases import moment
from canhazgpu.notifiers.messages.plain_text import contact, subject

MOODS = {"bad": "#d9534f", "good": "#3fa45b", "plain": "#4c8bd0"}  # Seen on white and on black.
BODY = (
    "margin:0;padding:16px;font-family:system-ui,-apple-system,'Segoe UI',sans-serif;font-size:16px;"
    "line-height:1.5"
)
CODE = (
    "border-radius:4px;background:rgba(128,128,128,.18);font-family:ui-monospace,Menlo,Consolas,monospace;"
    "font-size:14px;white-space:pre-wrap;word-break:break-word"
)
BLOCK = f"display:block;margin-top:4px;padding:8px 12px;{CODE}"
INLINE = f"padding:2px 6px;{CODE}"
SCROLL = "overflow-x:auto;margin:0 0 16px"
TABLE = "border-collapse:collapse;width:100%;font-size:14px;line-height:1.4"
CELL = (
    "padding:6px 12px 6px 0;border-bottom:1px solid rgba(128,128,128,.4);text-align:left;vertical-align:top"
)
TITLE = "font-size:16px;line-height:1.4;margin:20px 0 4px"
ENDED = ("GPU", "From", "Until", "Duration", "End")
LASTING = ("GPU", "Since", "PID", "Process", "Memory")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (?:UTC[+-]\d+|[A-Za-z]{2,6})", re.ASCII)
SMALL = "margin:0 0 8px;font-size:13px;opacity:.75"


def page(notice: Notice) -> str:
    """Return the notice as an HTML document with the content of the text version, escaped."""
    account = describe(notice)
    host = _text(printable(notice.host))
    asked = "".join(f'<p style="margin:20px 0 0"><b>{_text(line)}</b></p>\n' for line in contact(notice))
    end = f"Notice {_text(printable(notice.notice))} of {_text(moment(notice.created))}"
    parts = "".join(map(_part, account.parts))
    edge = f"max-width:720px;margin:0 auto;padding:4px 0 4px 16px;border-left:4px solid {MOODS[account.mood]}"
    return f"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{_text(subject(notice))}</title>
</head>
<body style="{_text(BODY)}">
<div style="{edge}">
<p style="{SMALL}">canhazgpu on {host}</p>
<h1 style="font-size:20px;line-height:1.35;margin:0 0 12px">{_prose(account.headline)}</h1>
{parts}{asked}<p style="{SMALL};margin:20px 0 0">{end}</p>
</div>
</body>
</html>
"""


def _text(text: str) -> str:
    return escape(text, quote=True)


def _prose(text: str) -> str:
    """Return text in which timestamps are not broken over two lines."""
    return _MOMENT.sub(r'<span style="white-space:nowrap">\g<0></span>', _text(text))


def _part(part: Part) -> str:
    return _KINDS[type(part)](part)


def _sentence(part: Sentence) -> str:
    return f'<p style="margin:8px 0">{_prose(part.text)}</p>\n'


def _commands(part: Commands) -> str:
    title = f'<p style="margin:12px 0 8px"><b>{_text(part.title)}</b></p>\n' if part.title else ""
    style = INLINE if part.aside else BLOCK
    rows = "".join(
        f'<p style="margin:8px 0">{_text(purpose)}:\n<code style="{style}">{_text(command)}</code></p>\n'
        for purpose, command in part.rows
    )
    return title + rows


def _uses(part: Uses) -> str:
    if not part.rows:
        return ""
    if any(use.until for use in part.rows):
        return _titled(part.title, ENDED, "".join(map(_ended, part.rows)))
    return _titled(part.title, LASTING, "".join(map(_lasting, part.rows)))


def _ended(use: Use) -> str:
    begin = _text(use.since) + _faint(use.violation + (f", peak {use.memory}" if use.memory else ""))
    return _row((_gpu(use), begin, _text(use.until), _text(use.lasted), _text(use.end)))


def _lasting(use: Use) -> str:
    rows = [(str(one.pid), _process(one), _text(one.memory)) for one in use.processes]
    if use.more:
        rows.append(("", f"and {use.more} more", ""))
    rows = rows or [("", "no visible process", _text(use.memory or "memory unknown"))]
    total = f", {use.memory} in total" if use.memory else ""
    first = (_gpu(use), _text(use.since) + _faint(use.violation + total))
    return "".join(_row((*(first if number == 0 else ("", "")), *row)) for number, row in enumerate(rows))


def _gpu(use: Use) -> str:
    held = f"<br>reserved by {_text(use.holder)}" if use.holder else ""
    return f"<b>{use.gpu}</b>{_faint(use.model)}{held}"


def _faint(text: str) -> str:
    return f'<br><span style="opacity:.75">{_text(text)}</span>'


def _process(one: Process) -> str:
    return _text(f"{one.name} in {one.inside}" if one.inside else one.name)


def _table(part: Table) -> str:
    if part.columns:
        return _titled(part.title, part.columns, "".join(_row(map(_text, row)) for row in part.rows))
    rows = "".join(
        f'<tr><th scope="row" style="{CELL};font-weight:normal;opacity:.75">{_text(name)}</th>'
        f'<td style="{CELL}">{_text(value)}</td></tr>\n'
        for name, value in part.rows
    )
    return _titled(part.title, (), rows)


def _titled(title: str, columns: tuple[str, ...], rows: str) -> str:
    heads = "".join(f'<th scope="col" style="{CELL}">{_text(column)}</th>' for column in columns)
    head = f"<tr>{heads}</tr>\n" if heads else ""
    table = f'<div style="{SCROLL}"><table style="{TABLE}">\n{head}{rows}</table></div>'
    return f'<h2 style="{TITLE}">{_text(title)}</h2>\n{table}\n'


def _row(cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f'<td style="{CELL}">{cell}</td>' for cell in cells) + "</tr>\n"


_KINDS: dict[type, Callable[..., str]] = {
    Sentence: _sentence,
    Commands: _commands,
    Uses: _uses,
    Table: _table,
}
