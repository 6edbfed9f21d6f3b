"""One notice of every kind for every reader, as `notify preview` and docs/notices show them.

`python -m canhazgpu.notifiers.samples docs/notices` writes what is in that folder.
"""

import sys
from pathlib import Path

import msgspec

from canhazgpu.events.notices import ADDRESS, ADMINS, HOLDER, OFFENDER, Notice
from canhazgpu.events.text import printable
from canhazgpu.events.violations import Violation
from canhazgpu.notifiers.page import page
from canhazgpu.notifiers.render import lines, subject
from canhazgpu.notifiers.sample_notices import Sample, samples

OF_VIOLATIONS = ("opened", "changed", "reminder", "resolved", "terminate")
OF_RESERVATIONS = ("granted", "expiring", "idle", "released", "unreserved", "timeout")
OF_FAILURES = ("stalled", "resumed", "gpu-failed", "gpu-recovered", "channel-failing", "channel-recovered")
KINDS = (*OF_VIOLATIONS, *OF_RESERVATIONS, *OF_FAILURES, "digest", "test")
AUDIENCES = (OFFENDER, HOLDER, ADMINS, ADDRESS)
README = """\
# Notices

Every notice that canhazgpu sends, to each of its readers: as text, which is what terminals show (the
first 1024 bytes of it) and mail says, and as the page that mail has beside it.

This folder is written by `python -m canhazgpu.notifiers.samples docs/notices`, from samples; a test
compares it with what the code makes of them. `canhazgpu notify preview` shows the same in a terminal.

| notice | | who reads it, and what it says |
|---|---|---|
"""


def of_violation(violation: Violation, host: str, contact: str, now: str) -> list[Sample]:
    """Return a violation as each kind of notice would tell of it now, to whoever could be told."""
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
    for kind in OF_VIOLATIONS:
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
    """Return what docs/notices holds, by file name."""
    found: dict[str, str] = {}
    rows = []
    for one in samples():
        text = "\n".join([f"Subject: {subject(one.notice)}", "", *lines(one.notice), ""])
        found |= {f"{one.name}.txt": text, f"{one.name}.html": page(one.notice)}
        rows.append(f"| {one.name} | [text]({one.name}.txt), [page]({one.name}.html) | {one.about} |\n")
    return {**found, "README.md": README + "".join(rows)}


def main(folder: Path) -> None:
    """Write the files, and remove notices that are none any more."""
    folder.mkdir(parents=True, exist_ok=True)
    made = files()
    for old in {*folder.glob("*.txt"), *folder.glob("*.html")}:
        if old.name not in made:
            old.unlink()
    for name, text in made.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
