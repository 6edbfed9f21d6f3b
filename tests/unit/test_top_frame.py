"""What `top` shows for a state, at each size: lines that fit, and nothing that a terminal would obey."""

import re
import unicodedata
from dataclasses import replace

import pytest
from support.gpus import described, process, reserved, unreserved

from canhazgpu.cli.display.terminal import width_of
from canhazgpu.cli.top.feed import State
from canhazgpu.cli.top.frame import frame, spark
from canhazgpu.cli.top.session import EXTEND, Session
from canhazgpu.client import Unreachable

SGR = re.compile(r"\x1b\[\d+m")
NAME = "\x1b[2J\x1b]0;owned\x07\u202e\r\n\x9b31m"
AT = "2026-11-30T12:00:31+00:00"


def violation(gpu: int, user: str) -> dict[str, object]:
    """An open violation, as far as it is shown."""
    facts = {"gpu": gpu, "user": user, "kind": "unreserved", "since": AT, "memory_mb": 1024}
    return {**facts, "holder": None}


def waiting(user: str, **facts: object) -> dict[str, object]:
    """A request in the queue."""
    return {
        "user": user,
        "label": None,
        "count": 2,
        "gpus": None,
        "waiting_s": 90,
        "expected": None,
        "reason": "needs 2 of 4",
        **facts,
    }


def booking(user: str, **facts: object) -> dict[str, object]:
    """A booking that begins soon."""
    times = {"begin": "2026-12-01T09:00:00.000Z", "end": "2026-12-01T13:00:00.000Z", "late": None}
    return {"user": user, "label": None, "note": "course", "count": 2, "gpus": None, **times, **facts}


STATE = State(
    gpus=[
        described(0),
        reserved(1, "alice", reservation={"note": "thesis", "gpus": [1, 2]}, memory_used_mb=40000),
        reserved(2, "alice", reservation={"id": "r-alice-1", "gpus": [1, 2], "note": "thesis"}),
        unreserved(3, "bob", violations=[violation(3, "bob")]),
    ],
    queue=[waiting("carol")],
    bookings=[booking("dave"), booking("alice", gpus=[0, 1], late=AT)],
    own=frozenset({"r-alice-1"}),
    at=AT,
    samples={"GPU-1": (None, 0, 50, 100)},
)
HOSTILE = State(
    gpus=[
        reserved(
            0,
            NAME,
            name=NAME,
            reservation={"note": NAME, "label": NAME},
            others=[process(1, NAME, NAME)],
            violations=[violation(0, NAME)],
        )
    ],
    queue=[waiting(NAME, label=NAME, reason=NAME)],
    bookings=[booking(NAME, label=NAME, note=NAME)],
    at=AT,
    warning=NAME,
    message=NAME,
    number=1,
)


def plain(state: State, session: Session | None = None, width: int = 160, height: int = 40) -> list[str]:
    """Return the lines without colours."""
    return [SGR.sub("", line) for line in frame(state, session or Session(), width, height)]


def numbers(lines: list[str]) -> list[int]:
    """Return the GPUs of the first table."""
    return [int(line.split()[0]) for line in lines if re.match(r" *\d+  [a-z]", line)]


@pytest.mark.parametrize("width", [40, 41, 60, 80, 100, 160, 200])
@pytest.mark.parametrize("height", [1, 2, 5, 14, 60])
@pytest.mark.parametrize("state", [STATE, HOSTILE, State()], ids=["usual", "hostile", "nothing"])
@pytest.mark.parametrize("helping", [False, True])
def test_every_size(state: State, width: int, height: int, helping: bool) -> None:  # noqa: FBT001
    """No line is wider than the terminal, there are no more than it has, and only colours are sequences."""
    lines = frame(state, Session(helping=helping), width, height)
    assert len(lines) == height
    for line in lines:
        text = SGR.sub("", line)
        assert width_of(text) <= width
        assert not {unicodedata.category(one) for one in text} & {"Cc", "Cf", "Zl", "Zp"}


def test_all_five_parts() -> None:
    """GPUs, reservations by ranges of GPUs, the queue, bookings and open violations are there."""
    text = "\n".join(plain(STATE))
    assert "canhazgpu top  4 GPUs: 1 free, 2 reserved, 1 unreserved" in text
    assert re.search(r"Reservations: 1\nWHO .*\nalice  1,2   manual  ", text)
    assert re.search(r"Queue: 1\nWHO .*\ncarol  2      0h 1m 30s  -         needs 2 of 4", text)
    times = r"12-01 09:00 UTC +13:00 UTC  course"
    assert re.search(rf"Bookings of the next 24 hours: 2\nWHO .*\ndave   2 +{times}\n", text)
    assert re.search(r"\nalice  GPUs 0,1  LATE 12-01 09:00 UTC  13:00 UTC  course\n", text)
    assert re.search(r"Open violations: 1\nWHO .*\nbob    3  unreserved  ", text)
    assert "12:00:31 UTC" in text.splitlines()[0]


def test_a_history() -> None:
    """The newest sample is on the right; work is never an empty bar, no reading never a full one."""
    assert spark((None, 0, 1, 50, 100), 160) == "  ▁▄█"
    assert spark(tuple(range(40)), 80) == spark(tuple(range(30, 40)), 80)
    assert spark((None, 0, 1, 50, 100), 160, unicode=False) == "  .=@"


def test_an_old_state_says_since_when() -> None:
    """If the service is gone, the last state stays, with when it was true and why it is old."""
    lines = plain(replace(STATE, trouble=Unreachable("the service does not answer", "start it")))
    assert lines[1] == "stale since 12:00:31 UTC: the service does not answer; start it"
    assert numbers(lines) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("session", "found", "foot"),
    [
        (Session(), [0, 1, 2, 3], "q quit"),
        (Session(filter="mine"), [1, 2], "[mine]  q quit"),
        (Session(filter="free"), [0], "[free]  q quit"),
        (Session(filter="unreserved"), [3], "[unreserved]  q quit"),
        (Session(user="bob"), [3], "[of bob]  q quit"),
        (Session(order="memory"), [1, 3, 0, 2], "[by memory]  q quit"),
        (Session(filter="free", user="bob"), [], "[free, of bob]  q quit"),
    ],
)
def test_choices(session: Session, found: list[int], foot: str) -> None:
    """The chosen GPUs are shown, and the last line says what is chosen."""
    lines = plain(STATE, session)
    assert numbers(lines) == found
    assert lines[-1].startswith(foot)
    assert ("No GPU matches." in lines) == (not found)


TABLES = ("Reservations", "Queue", "Bookings of the next 24 hours", "Open violations")


def tables(lines: list[str]) -> dict[str, list[str]]:
    """Return the first words of the rows of each table below the first."""
    found: dict[str, list[str]] = {}
    for line in lines[:-1]:
        if ": " in line and line.split(":")[0] in TABLES:
            rows = found.setdefault(line.split(":")[0].split()[0], [])
        elif found and line and not line.startswith("WHO"):
            rows.append(line.split()[0])
    return found


@pytest.mark.parametrize(
    ("session", "found"),
    [
        (
            Session(),
            {
                "Reservations": ["alice"],
                "Queue": ["carol", "bob"],
                "Bookings": ["dave", "alice"],
                "Open": ["bob"],
            },
        ),
        (Session(user="alice"), {"Reservations": ["alice"], "Bookings": ["alice"]}),
        (Session(user="bob"), {"Queue": ["bob"], "Open": ["bob"]}),
        (Session(user="carol"), {"Queue": ["carol"]}),
        (Session(filter="free"), {"Queue": ["carol", "bob"], "Bookings": ["dave", "alice"]}),
        (Session(filter="unreserved"), {"Open": ["bob"]}),
        (Session(filter="mine"), {"Reservations": ["alice"]}),
    ],
)
def test_the_tables_below_are_of_the_same_choice(session: Session, found: dict[str, list[str]]) -> None:
    """Reservations, the queue and violations show what was chosen, as the GPUs do."""
    state = replace(STATE, queue=[waiting("carol"), waiting("bob")])
    assert tables(plain(state, session)) == found


def test_a_holder_sees_who_is_on_their_gpu() -> None:
    """A violation on a GPU of the chosen user is shown, whoever's it is; one of others elsewhere is not."""
    trespass = {**violation(1, "bob"), "holder": "alice"}
    elsewhere = unreserved(3, "eve", violations=[violation(3, "eve")])
    gpus = [reserved(1, "alice", violations=[trespass]), elsewhere]
    state = replace(STATE, gpus=gpus, queue=[], bookings=[])
    assert tables(plain(state, Session(user="alice"))) == {
        "Reservations": ["alice"],
        "Open": ["bob"],
    }


def test_one_unit_and_the_end_of_a_run() -> None:
    """Memory is in GiB in every table, and a run with a time limit ends then."""
    run = {"kind": "run", "expires": None, "expires_in_s": None, "gpus": [1]}
    state = replace(STATE, gpus=[reserved(1, "alice", reservation=run), STATE.gpus[3]])
    lines = plain(state)
    assert re.search(r"alice +1 +run .* 17:00 UTC", "\n".join(lines))
    (row,) = [line for line in lines if line.startswith("bob ")]
    assert row.split()[-1] == "1.0"


def test_scrolling_ends_at_the_end() -> None:
    """The body moves below the head; it cannot be scrolled away."""
    session = Session(scroll=1000)
    lines = plain(STATE, session, height=8)
    assert lines[0].startswith("canhazgpu top")
    assert lines[-2].startswith("bob")
    assert session.scroll < 20


def test_a_message_stays_until_a_key() -> None:
    """What came of a request is the last line until a key is pressed."""
    session = Session()
    done = replace(STATE, message="Extended GPUs 1,2.", number=1)
    assert plain(done, session)[-1] == plain(done, session)[-1] == "Extended GPUs 1,2."
    session.press("down")
    assert plain(done, session)[-1].startswith("q quit")
    assert plain(replace(done, number=2), session)[-1] == "Extended GPUs 1,2."


@pytest.mark.parametrize("width", [40, 60, 160])
def test_an_answer_is_always_seen(width: int) -> None:
    """The question becomes shorter, the answer does not."""
    session = Session(prompt=EXTEND, answer="2h 0,1,2,3,4,5")
    line = plain(STATE, session, width)[-1]
    assert line.startswith("Extend your manual res")
    assert line.endswith("2h 0,1,2,3,4,5_")
    assert width_of(line) <= width
