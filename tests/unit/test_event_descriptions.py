"""The sentences of a timeline."""

import msgspec
import pytest
from support.attempts import attempt
from support.event_history import NOW, violation
from support.hostile import harm

from canhazgpu.events.silences import ADDED, ENDED, Silence
from canhazgpu.events.violations import CLOSED, OPENED, UPDATED, Signalled, Violation
from canhazgpu.service.violations import event_descriptions
from canhazgpu.service.violations.responses import NoticeFacts

NASTY = "\x1b[2J\r\nGPU 7\0\u202e\x9b"


def _processes(*names: str) -> list[dict[str, object]]:
    return [
        {"pid": 10 + number, "name": name, "user": "bob", "memory_mb": 1, "uid": 1, "start": 1}
        | {"person": "bob", "evidence": "uid", "container": None}
        for number, name in enumerate(names)
    ]


def _notice(**facts: object) -> NoticeFacts:
    values: dict[str, object] = {
        "notice": "n1",
        "kind": "opened",
        "audience": "offender",
        "user": "bob",
        "person": "bob",
        "created": "x",
        "serial": 1,
        "gpus": [0],
        "channels": ["wall", "log"],
        "to": None,
        "unreached": False,
        "unreached_holder": None,
        "dry_run": False,
    }
    return msgspec.convert({**values, **facts}, NoticeFacts)


def _silence(**facts: object) -> Silence:
    values = {"id": "s", "by": "root", "by_uid": 0, "since": "x", "until": "2026-11-25T18:00:00.000Z"}
    return msgspec.convert({**values, "until_ms": 0, "reason": "maintenance", **facts}, Silence)


@pytest.mark.parametrize(
    ("kind", "one", "said"),
    [
        (
            OPENED,
            violation(NOW, processes=_processes("python3", "jupyter")),
            "bob uses GPU 0 without a reservation: 1024MB by PID 10 (python3) and PID 11 (jupyter)",
        ),
        (
            OPENED,
            violation(NOW, kind="trespass", holder="alice"),
            "bob uses GPU 0, which alice holds: 1024MB by unknown processes",
        ),
        (
            OPENED,
            violation(NOW, kind="overstaying", processes=_processes("a")),
            "bob uses GPU 0 after their reservation ended: 1024MB by PID 10 (a)",
        ),
        (
            OPENED,
            violation(NOW, memory_mb=0, processes=_processes("a")),
            "bob uses GPU 0 without a reservation: PID 10 (a)",
        ),
        (
            UPDATED,
            violation(NOW, processes=_processes("a", "b", "c", "d", "e")),
            "Now 1024MB by PID 10 (a), PID 11 (b), PID 12 (c) and 2 more",
        ),
        (
            CLOSED,
            violation(NOW, reason="reserved", duration_s=3723),
            "It ended after 1h 2m 3s: the GPU is reserved for them now",
        ),
    ],
)
def test_facts_are_said_in_a_sentence(kind: str, one: Violation, said: str) -> None:
    """A fact is described with the user, the GPU, the right, the program, the duration and the reason."""
    assert event_descriptions.describe_fact(kind, one) == said


def test_a_gpu_that_is_called_otherwise_is_said() -> None:
    """An update that gives the GPU a new index says so."""
    said = event_descriptions.describe_fact(
        UPDATED, violation(NOW, processes=_processes("a")), violation(NOW, gpu=3)
    )
    assert said == "The GPU is now GPU 0, with 1024MB by PID 10 (a)"


def test_notices_say_for_whom_and_by_what() -> None:
    """A notice is described with its audience, its channels, and why administrators were notified."""
    said = event_descriptions.describe_notice
    assert said(_notice()) == "First notice for bob, by wall and log"
    assert said(_notice(kind="reminder", channels=[])) == "Reminder for bob, by every channel"
    assert (
        said(_notice(audience="holder", person="alice", kind="resolved"))
        == "Notice for alice (who holds the GPU) that it was resolved, by wall and log"
    )
    assert (
        said(_notice(audience="admins", person=None, unreached=True, channels=["email"]))
        == "First notice for administrators, by email, because bob could not be reached"
    )
    assert (
        said(_notice(audience="address", person=None, to="team@example.com", channels=["email"]))
        == "First notice for team@example.com, by email"
    )
    assert said(_notice(kind="terminate", channels=["terminate"], dry_run=True)) == (
        "Order to terminate the processes of bob (dry run), by terminate"
    )


def test_attempts_say_what_became_of_them() -> None:
    """An attempt is described with its channel, recipient, outcome and reason, and with its number."""
    said = event_descriptions.describe_attempt
    assert said(attempt()) == "By email to bob@example.com: delivered"
    assert said(attempt(outcome="retry", detail="451 later", attempt=3)) == (
        "By email to bob@example.com: failed for now, will be retried (451 later), attempt 3"
    )
    assert said(attempt(channel="wall", recipient="", outcome="nobody")) == ("By wall: no recipient")


def test_silences_and_signals_say_who_and_why() -> None:
    """Silences, acknowledgements, their ends, and signals are described with the user and the reason."""
    assert event_descriptions.describe_silence(ADDED, _silence(user="bob", gpu=3, process="jupyter")) == (
        "root silenced user bob, GPU 3, process jupyter until 2026-11-25 18:00:00 UTC: maintenance"
    )
    assert event_descriptions.describe_silence(
        ADDED, _silence(by="bob", user="bob", ack=True, reason="one moment")
    ) == ("bob acknowledged it until 2026-11-25 18:00:00 UTC: one moment")
    assert event_descriptions.describe_silence(ENDED, _silence()) == "The silence of root has ended"
    assert (
        event_descriptions.describe_silence(ENDED, _silence(ended_by="ann"))
        == "ann ended the silence of root"
    )
    signal = Signalled(
        notice="n",
        violation="v",
        gpu=0,
        user="bob",
        uid=1,
        pid=7,
        start=1,
        name="python3",
        signal="TERM",
        outcome="sent",
    )
    assert event_descriptions.describe_signal(signal) == "SIGTERM to PID 7 (python3): sent"


def test_no_sentence_passes_control_characters_on() -> None:
    """Hostile text in any field gives one harmless line."""
    said = [
        event_descriptions.describe_fact(
            OPENED, violation(NOW, user=NASTY, kind="trespass", holder=NASTY, processes=_processes(NASTY))
        ),
        event_descriptions.describe_fact(CLOSED, violation(NOW, reason=NASTY)),
        event_descriptions.describe_notice(_notice(kind=NASTY, person=NASTY, channels=[NASTY])),
        event_descriptions.describe_attempt(
            attempt(recipient=NASTY, detail=NASTY, outcome=NASTY, channel=NASTY)
        ),
        event_descriptions.describe_silence(
            ADDED, _silence(by=NASTY, user=NASTY, process=NASTY, reason=NASTY, until=NASTY)
        ),
        event_descriptions.describe_silence(ENDED, _silence(by=NASTY, ended_by=NASTY)),
    ]
    assert [harm(one, "") for one in said] == [set()] * len(said)
