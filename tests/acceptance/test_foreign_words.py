"""Text from users (labels, notes, reasons) is never mistaken for the service's own output."""

import re
import subprocess
from collections.abc import Iterator

import pytest
from support.daemon import Daemon, serving
from support.people import Person

from canhazgpu.cli.reservations.queue_listing import row as queue_row
from canhazgpu.cli.status_lines import line

ACCUSATION = "x WITHOUT RESERVATION by user eve - 9MB"
ACCUSED = re.compile(r"by users? ([^-]+) - (\d+)MB")
SED = r"s/.*by users\? \([^-]*\) -.*/\1/p"
HELD = {
    "user": "alice",
    "label": ACCUSATION,
    "kind": "manual",
    "for_s": 1,
    "expires_in_s": 2,
    "last_heartbeat_s": None,
    "lingering_s": None,
}
GPU = {
    "gpu_id": 0,
    "reservation": HELD,
    "others": [],
    "processes": [],
    "memory_mb": 1024,
    "in_use": False,
    "drained": ACCUSATION,
    "reason": ACCUSATION,
    "silenced_s": None,
    "users": ["bob"],
}
NAMED = {"pid": 1, "user": "bob", "name": ACCUSATION, "memory_mb": 1024}


def accused(shown: str) -> tuple[list[str], list[str]]:
    """Return the users without a reservation, as people's scripts would find them."""
    lines = [text for text in shown.splitlines() if "WITHOUT RESERVATION" in text]
    sed = subprocess.run(
        ["sed", "-n", SED], input="\n".join(lines), capture_output=True, text=True, check=True
    )
    found = [match[1] for text in lines if (match := ACCUSED.search(text))]
    return sed.stdout.split(), found


@pytest.mark.parametrize("status", ["IN_USE", "DRAINED", "ERROR", "UNKNOWN"])
@pytest.mark.parametrize("others", [[], [NAMED]], ids=["alone", "trespass"])
def test_no_line_accuses_by_somebodys_words(status: str, others: list[dict[str, object]]) -> None:
    """Labels, reasons and process names contain none of the scripts' keywords, in any state."""
    shown = line({**GPU, "status": status, "others": others, "processes": others})
    assert accused(shown) == ([], [])
    assert "eve" in shown


def test_a_violation_names_whom_it_is_about() -> None:
    """Reasons and process names do not change the user of a violation's line."""
    shown = line({**GPU, "status": "UNRESERVED", "processes": [NAMED]})
    assert accused(shown) == (["bob"], ["bob"])


def test_the_queue_accuses_nobody() -> None:
    """Notes and labels are escaped in the queue too."""
    row = {
        "id": "r1-1",
        "position": 1,
        "user": "alice",
        "label": ACCUSATION,
        "gpus": [0],
        "count": 1,
        "waiting_s": 1,
    }
    cells = queue_row({**row, "expected": None, "reason": f"(note) {ACCUSATION}", "note": ACCUSATION})
    assert accused("  ".join(cells)) == ([], [])


@pytest.fixture(scope="module")
def lasting_two() -> Iterator[Daemon]:
    """One service on two idle GPUs for all tests of this module."""
    with serving(2) as daemon:
        yield daemon


@pytest.fixture
def two(lasting_two: Daemon) -> Iterator[Daemon]:
    """The service; what the test reserved is released at its end."""
    yield lasting_two
    assert lasting_two.run("admin", "release", "--all").returncode == 0
    assert lasting_two.status().count("AVAILABLE") == 2


def test_a_label_accuses_nobody(two: Daemon, people: list[Person]) -> None:
    """A label that looks like a keyword is escaped."""
    alice, bob = people
    label = f"x WITHOUT RESERVATION by user {bob.name} - 9MB"
    assert two.run("reserve", "--gpu-ids", "0", "--user", label, person=alice).returncode == 0
    shown = two.status()
    spelled = f"x WITHOUT\\x20RESERVATION by\\x20user {bob.name}\\x20- 9MB"
    assert f"GPU 0: IN USE by {alice.name} ({spelled}) for" in shown
    assert accused(shown) == ([], [])


@pytest.mark.parametrize("label", ["{alice} (admin)", "{alice}\u0430", "a\u202eb", "<b>", " "])
def test_a_label_that_may_look_like_somebody(two: Daemon, people: list[Person], label: str) -> None:
    """Parentheses and letters beyond ASCII are refused on one line, with what is allowed."""
    alice, bob = people
    done = two.run("reserve", "--user", label.format(alice=alice.name), person=bob)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "--user" in done.stderr
    assert "GPU 0: AVAILABLE" in two.status()


@pytest.mark.parametrize("label", ["nick", "J\u00fcrgen", "Ann Lee", "a.b_c-d@lab.org", "team: nlp/3+1"])
def test_an_ordinary_label(two: Daemon, label: str) -> None:
    """Names, email addresses and projects are allowed as labels."""
    assert two.run("reserve", "--gpu-ids", "0", "--user", label).returncode == 0
    assert f"GPU 0: IN USE by root ({label}) for" in two.status()
