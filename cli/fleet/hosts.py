"""Asks the service for all hosts of the fleet, and writes the line above the rows of each."""

from __future__ import annotations

import sys

from canhazgpu.cli.exit_codes import REFUSED
from canhazgpu.cli.output import client, fail, print_json
from canhazgpu.cli.status_lines import foreign
from canhazgpu.events.durations import spell_length
from canhazgpu.events.sanitize import LONGEST_WORDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Rows = list[dict[str, Any]]

SILENCE = 60.0  # Seconds.


def hosts(
    view: str, host: str | None = None, words: dict[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield what a view shows of each host, or of one: `host`, `seen_s`, `away`, and its rows."""
    asked = ""
    if host is not None or words:
        from urllib.parse import urlencode  # noqa: PLC0415 - slow to import

        asked = "?" + urlencode({**(words or {}), **({} if host is None else {"host": host})})
    for row in client().lines(f"/v1/fleet/{view}{asked}", silence=SILENCE):
        if row.get("state") == "refused":
            fail(f"{row['detail']} ({row['remedy']})", REFUSED)
        yield row


def heading(host: dict[str, Any]) -> str:
    """Return the line above the rows of a host: its name, and how old they are."""
    seen = f"seen {spell_length(host['seen_s'])} ago"
    if host["away"]:
        seen = f"AWAY: {foreign(host['away'], LONGEST_WORDS)}; last known state"
    lost = sum(host["missing"].values())
    missing = f"; {lost} events are missing" if lost else ""
    return f"{foreign(host['host'])} ({seen}{missing})\n"


def show_hosts(
    view: str,
    name: str,
    text: Callable[[Rows], str],
    *,
    host: str | None = None,
    words: dict[str, Any] | None = None,
    as_json: bool = False,
    select: Callable[[Rows], Rows] | None = None,
) -> None:
    """Print the rows `name` of all hosts, or of one, as `text` writes them, or as a JSON array of hosts.

    `words` are further parts of the request. With `select`, only those rows are shown, and hosts that have
    none are left out.
    """
    found = []
    for one in hosts(view, host, words):
        rows = select(one[name]) if select else one[name]
        if select and not rows:
            continue
        if as_json:
            found.append({**one, name: rows})
        else:
            sys.stdout.write(heading(one) + text(rows))
    if as_json:
        print_json(found)
