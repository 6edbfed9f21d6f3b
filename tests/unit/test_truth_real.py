"""The real part of the truth bench: the product's statements against a history of intervals."""

from dataclasses import replace
from typing import Any

import pytest

from bench.truth import oracle
from bench.truth.kinds import KINDS
from bench.truth.lab import Process
from bench.truth.promise import Promise
from bench.truth.real.history import CardState, History, Presence, Span
from bench.truth.real.judge import Answered, Heard, Judge, Shown, adopted, story
from bench.truth.rights import Request

UUID, PID, END = "GPU-c0-0", 100, 20_000
PROMISE = Promise(interval=200, confirm=1000, idle=3000, slack=500)


@pytest.fixture
def history() -> History:
    """Return a history with one card that works."""
    return History({"c0": UUID}, states=[CardState((0, 0), card="c0", state="ok")])


def uses(
    history: History, person: str, began: int, ended: int | None, kind: str = "plain", hint: str = ""
) -> None:
    """Let a user's process use the card; each change takes 10 ms."""
    process = Process(person, PID, 0, person, KINDS[kind], "", 0, None, hint=hint, memory={"c0": 600})
    process = replace(process, began=(began, began + 10))
    span = (began, began + 10), None if ended is None else (ended, ended + 10)
    history.presences += [Presence(*span, process=process, card=card) for card in ("", "c0")]


def violation(at_ms: int, person: str, verb: str = "opened", pid: int = PID) -> Heard:
    """Return an event about the card."""
    data = {"violation": "v1", "gpu": 0, "gpu_uuid": UUID, "user": person, "person": person, "since": ""}
    return Heard(at_ms, f"canhazgpu.violation.{verb}", {**data, "processes": [{"pid": pid}]})


def reservation(at_ms: int, user: str, verb: str = "created", **more: Any) -> Heard:
    """Return an event about a reservation of the card."""
    return Heard(at_ms, f"canhazgpu.reservation.{verb}", {"id": "r1", "user": user, "gpus": [0], **more})


def asked(
    person: str, began: int, ended: int, kind: str = "manual", gpus: tuple[int, ...] = (0,)
) -> Answered:
    """Return the answer to a user who requested the card."""
    return Answered((began, ended), Request("a", person, kind, id="r1"), gpus)


def wrong(history: History, *said: Heard | Shown | Answered) -> list[str]:
    """Return the columns with errors."""
    found = Judge(history, PROMISE).judge(
        [one for one in said if isinstance(one, Heard)],
        [one for one in said if isinstance(one, Shown)],
        [one for one in said if isinstance(one, Answered)],
        [],
        END,
    )
    return [failure.column for failure in found]


def test_a_rightful_violation_is_no_failure(history: History) -> None:
    """A violation that is reported in time and not for too long is correct."""
    uses(history, "ann", 1000, 5000)
    assert wrong(history, violation(2300, "ann"), violation(5200, "ann", "closed")) == []


def test_what_may_have_been_excuses(history: History) -> None:
    """A scan that began before a process ended may report it afterwards."""
    uses(history, "ann", 1000, 2600)
    assert wrong(history, violation(2900, "ann"), violation(3100, "ann", "closed")) == []


def test_who_was_not_there_is_falsely_accused(history: History) -> None:
    """A violation without a process on the card is a false accusation."""
    uses(history, "ann", 1000, 2000)
    assert wrong(history, violation(5000, "ann"), violation(5200, "ann", "closed")) == [oracle.FALSE]


def test_another_is_the_wrong_person(history: History) -> None:
    """A violation of the wrong user is counted, and so is the missed one."""
    uses(history, "ann", 1000, 5000)
    found = wrong(history, violation(2300, "bob"), violation(2400, "bob", "closed"))
    assert found == [oracle.PERSON, oracle.MISSED]


def test_a_pid_that_is_anothers_by_now_is_the_wrong_person(history: History) -> None:
    """A later process with the same pid is another process."""
    uses(history, "ann", 1000, 3000)
    uses(history, "bob", 3020, 8000)
    said = [violation(2300, "ann"), violation(3100, "ann", "closed"), violation(4200, "ann")]
    assert oracle.PERSON in wrong(history, *said)


def test_use_that_is_never_told_is_missed(history: History) -> None:
    """Use without a right that lasts too long is missed, unless the daemon could not see it."""
    uses(history, "ann", 1000, 5000)
    assert wrong(history) == [oracle.MISSED]
    history.blind.append(Span((2000, 2000), (4000, 4000)))
    assert wrong(history) == []


def test_use_that_is_told_late_is_late(history: History) -> None:
    """A violation that is reported after its time is late, not missed."""
    uses(history, "ann", 1000, 5000)
    assert wrong(history, violation(4000, "ann"), violation(5200, "ann", "closed")) == [oracle.LATE]


def test_a_card_that_was_used_all_through_the_call_is_not_granted(history: History) -> None:
    """A card that was in use during the whole call must not be granted, except to its own user."""
    uses(history, "ann", 1000, 2400)
    grant = reservation(2300, "bob")
    assert wrong(history, grant, asked("bob", 2000, 2400)) == [oracle.GRANTED]
    history.presences.clear()
    uses(history, "ann", 1000, 2100)
    assert wrong(history, grant, asked("bob", 2000, 2400)) == []
    history.presences.clear()
    uses(history, "bob", 1000, None)
    assert wrong(history, grant, asked("bob", 2000, 2400)) == []


def test_a_card_in_use_is_not_released_as_idle(history: History) -> None:
    """A card that is used by a container of an unknown user must not be released as idle."""
    uses(history, "?", 1000, None, "container")
    created, idle = reservation(500, "bob"), reservation(9000, "bob", "released", reason="idle")
    assert wrong(history, created, idle, asked("bob", 400, 600)) == [oracle.IDLE, oracle.MISSED]
    history.presences.clear()
    uses(history, "?", 1000, None, "container", hint="ann")
    assert wrong(history, created, idle, asked("bob", 400, 600)) == [oracle.MISSED]


def test_what_is_told_is_what_was_decided(history: History) -> None:
    """An answer that names another card than the event is counted."""
    assert wrong(history, reservation(500, "bob"), asked("bob", 400, 600, gpus=(1,))) == [oracle.GPU]


def test_status_is_judged(history: History) -> None:
    """Wrong owners and holders in `status` are counted."""
    uses(history, "ann", 1000, 2000)
    process = {"pid": PID, "user": "ann", "evidence": "uid"}
    gpu = {"gpu_id": 0, "uuid": UUID, "status": "UNRESERVED", "processes": [process], "reservation": None}
    assert wrong(history, Shown((1500, 1510), [gpu])) == []
    other = gpu | {"processes": [process | {"user": "bob"}]}
    assert wrong(history, Shown((1500, 1510), [other])) == [oracle.PERSON]
    assert wrong(history, Shown((1500, 1510), [gpu | {"reservation": {"id": "r9"}}])) == [oracle.GPU]


def test_an_answer_that_was_lost_is_found_again(history: History) -> None:
    """A lost answer is reconstructed from the event."""
    request = Request("a", "bob", "manual")
    heard = [reservation(500, "bob")]
    adopted(heard, [((400, 900), request)], set())
    assert request.id == "r1"
    uses(history, "ann", 1000, 5000)
    (failure,) = Judge(history, PROMISE).judge([], [], [], [], END)
    history.note("ann does something", at_ms=failure.at_ms - 1500)
    assert "  -1.500 s  ann does something" in story(failure, history, heard)


def test_a_few_short_looks_are_no_violation(history: History) -> None:
    """Short uses add up to a violation only after enough returns."""
    for began in (1000, 3000):
        uses(history, "ann", began, began + 100)
    assert oracle.FALSE in wrong(history, violation(3090, "ann"), violation(3200, "ann", "closed"))
    for began in (5000, 7000, 9000):
        uses(history, "ann", began, began + 100)
    assert wrong(history, violation(9090, "ann"), violation(9200, "ann", "closed")) == []
    history.presences.clear()
    uses(history, "ann", 1000, 3000)
    uses(history, "ann", 5000, 5100)
    first = [violation(2300, "ann"), violation(3100, "ann", "closed")]
    assert wrong(history, *first) == []
    assert oracle.FALSE in wrong(history, *first, violation(5090, "ann"), violation(5200, "ann", "closed"))


def test_a_card_that_has_just_failed_was_not_well_all_the_time(history: History) -> None:
    """A run that has ended may be released when its card fails, but not while it works."""
    process = Process("a", PID, 0, "bob", KINDS["plain"], "", 0, None, run="a", memory={"c0": 600})
    history.presences += [Presence((1000, 1010), process=process, card=card) for card in ("", "c0")]
    said = reservation(900, "bob"), reservation(3000, "bob", "released", reason="exited")
    assert oracle.IDLE in wrong(history, *said, asked("bob", 800, 950, "run"))
    history.states[0].ended = (2940, 2950)
    history.states.append(CardState((2940, 2950), card="c0", state="error"))
    assert wrong(history, *said, asked("bob", 800, 950, "run")) == []


def test_a_card_that_hung_excuses_until_it_is_read_again(history: History) -> None:
    """After a card hung, missing reports are excused until it is read again."""
    well = history.states[0]

    def hung(began: int, ended: int) -> list[CardState]:
        again = CardState((ended + 10, ended + 10), card="c0", state="ok")
        return [well, CardState((began, began), (ended, ended), card="c0", state="unread"), again]

    uses(history, "ann", 1000, 9000)
    history.states = hung(1500, 6000)
    assert wrong(history, violation(7300, "ann"), violation(9200, "ann", "closed")) == []
    assert wrong(history, violation(8200, "ann"), violation(9200, "ann", "closed")) == [oracle.LATE]
    history.presences.clear()
    uses(history, "ann", 1000, 3000)
    stays = [violation(2300, "ann"), violation(6200, "ann", "closed")]
    history.states = hung(2400, 6000)
    assert wrong(history, *stays) == []
    history.states = hung(2400, 3500)
    assert wrong(history, *stays) == [oracle.FALSE]


def test_an_old_container_is_not_presumed_to_be_a_new_holders(history: History) -> None:
    """A container that started long before the reservation is not presumed to be the holder's."""
    told = [violation(7400, "?"), violation(9200, "?", "closed")]
    for began, expected in ((500, False), (1000, False), (1500, True)):
        history.presences.clear()
        uses(history, "?", began, 9000, "container")
        granted, answer = reservation(6000, "bob"), asked("bob", 5900, 6100)
        found = wrong(history, violation(2900, "?"), granted, answer, *told)
        assert (oracle.FALSE in found) == expected, began
