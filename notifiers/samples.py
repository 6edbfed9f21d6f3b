"""Sample notices of every kind for every audience, as shown by `notify preview` and in docs/notices.

`python -m canhazgpu.notifiers.samples docs/notices` writes that folder.
"""

import sys
from pathlib import Path

import msgspec

from canhazgpu.events.contract.values import VIOLATION_NOTICES
from canhazgpu.events.notices import ADDRESS, ADMINS, HOLDER, OFFENDER, Notice
from canhazgpu.events.sanitize import printable
from canhazgpu.events.timestamps import use_zone
from canhazgpu.events.violations import Violation
from canhazgpu.notifiers.messages.html_page import page
from canhazgpu.notifiers.messages.plain_text import lines, subject
from canhazgpu.notifiers.messages.sample_notices import Sample, samples

README = """\
# Notices

A sample of every notice that canhazgpu sends, for each audience. The text version is used on terminals
(the first 1024 bytes of it) and in emails. The HTML version is the alternative part of emails.

This folder is generated: `python -m canhazgpu.notifiers.samples docs/notices` writes it, and a test fails
if it is out of date. `canhazgpu notify preview` shows the same notices in a terminal.

| notice | | audience and content |
|---|---|---|
"""


def of_violation(violation: Violation, host: str, contact: str, now: str) -> list[Sample]:
    """Return the notices that could be sent about a violation now, of every kind and for every audience."""
    ended = violation
    if not violation.closed:
        ended = msgspec.structs.replace(violation, closed=now, reason="stopped")
    people = {OFFENDER: violation.person, HOLDER: violation.holder, ADMINS: None, ADDRESS: None}
    plain = Notice(
        notice="preview",
        kind="opened",
        episode=violation.violation,
        host=host,
        user=violation.user,
        uid=violation.uid,
        person=None,
        created=now,
        contact=contact,
    )
    found = []
    for kind in VIOLATION_NOTICES:
        told = (ended if kind == "resolved" else violation,)
        for audience, person in people.items():
            if person or audience in (ADMINS, ADDRESS):
                changes = {"kind": kind, "audience": audience, "person": person, "violations": told}
                notice = msgspec.structs.replace(plain, **changes)
                found.append(
                    Sample(f"{kind}-{audience}", f"violation {printable(violation.violation)}", notice)
                )
    return found


def files() -> dict[str, str]:
    """Return the files of docs/notices by name."""
    use_zone("UTC")  # Wherever it runs.
    found: dict[str, str] = {}
    rows = []
    for one in samples():
        text = "\n".join([f"Subject: {subject(one.notice)}", "", *lines(one.notice), ""])
        found |= {f"{one.name}.txt": text, f"{one.name}.html": page(one.notice)}
        rows.append(f"| {one.name} | [text]({one.name}.txt), [HTML]({one.name}.html) | {one.about} |\n")
    return {**found, "README.md": README + "".join(rows)}


def main(folder: Path) -> None:
    """Write the files, and remove those of notices that no longer exist."""
    folder.mkdir(parents=True, exist_ok=True)
    made = files()
    for old in {*folder.glob("*.txt"), *folder.glob("*.html")}:
        if old.name not in made:
            old.unlink()
    for name, text in made.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
