"""The wording of notices for each kind and audience: facts, suggested commands, and the contact."""

import re

import msgspec
import pytest
from support.notice_phrases import NEVER_SAYS, SAYS

from canhazgpu.events.contract.values import AUDIENCES, NOTICE_KINDS, VIOLATION_NOTICES
from canhazgpu.events.notices import ADMINS, OFFENDER, Notice
from canhazgpu.notifiers.messages.plain_text import QUESTIONS, headline, lines, subject
from canhazgpu.notifiers.messages.sample_facts import PYTHON, reservation, violation
from canhazgpu.notifiers.messages.sample_notices import Sample, samples

SAMPLES = {one.name: one for one in samples()}
OPENED = SAMPLES["opened-offender"].notice
EVERY = pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)


def _text(sample: Sample) -> str:
    return "\n".join(lines(sample.notice))


@EVERY
def test_a_notice_says_what_its_reader_needs(sample: Sample) -> None:
    """Each sample has its expected sentences and commands, and none of another audience."""
    text = _text(sample)
    if sample.name != "opened-offender-many":
        assert SAYS[sample.name]
    for phrase in SAYS.get(sample.name, []):
        assert phrase in text
    for phrase in NEVER_SAYS.get(sample.name, []):
        assert phrase not in text


@EVERY
def test_every_notice_says_where_when_and_whom_to_ask(sample: Sample) -> None:
    """Every notice has the host and its id in the first line, a time, and the contact in the last line."""
    first, *_, last = lines(sample.notice)
    assert first == headline(sample.notice)
    assert first.startswith("canhazgpu on gpu-host-1: ")
    assert first.endswith(" [n2041]")
    assert last == f"{QUESTIONS}gpu-admins@example.com, room 214"
    assert re.search(r"2026-11-2\d \d\d:\d\d:\d\d UTC", _text(sample)) or sample.notice.kind == "test"
    assert "None" not in _text(sample)
    assert subject(sample.notice).startswith("[canhazgpu gpu-host-1] ")
    assert not lines(msgspec.structs.replace(sample.notice, contact=""))[-1].startswith(QUESTIONS)


def test_every_kind_that_there_is_has_its_words() -> None:
    """Every defined kind of notice has wording for each of its audiences."""
    said = re.search(r"`kind` for (.*?)\n\n", Notice.__doc__ or "", re.DOTALL)
    assert said
    plain = re.sub(r"\(.*?\)", "", said[1])
    kinds = {
        word.strip().removeprefix("Or ")
        for sentence in plain.replace("\n", " ").rstrip(".").split(".")
        for word in sentence.rpartition(":")[2].split(",")
    }
    assert len(kinds) == 26
    assert kinds == set(NOTICE_KINDS) == {one.notice.kind for one in SAMPLES.values()}
    told = {(one.notice.kind, one.notice.audience) for one in SAMPLES.values()}
    lasting = {kind for kind in VIOLATION_NOTICES if kind != "terminate"}
    assert {(kind, audience) for kind in lasting for audience in AUDIENCES} <= told
    assert set(SAYS) | {"opened-offender-many"} == set(SAMPLES)


def test_what_nobody_is_proven_to_have_done_is_told_as_to_administrators() -> None:
    """A notice without a proven user uses the wording for administrators, whatever its audience."""
    unproven = SAMPLES["opened-admins-unproven"].notice
    accusing = msgspec.structs.replace(unproven, audience=OFFENDER)
    assert lines(accusing) == lines(msgspec.structs.replace(unproven, audience=ADMINS))


def test_a_holder_is_told_of_their_own_gpus_only() -> None:
    """A holder's notice has only the violations on the GPUs that they reserved."""
    mixed = SAMPLES["opened-offender-mixed"].notice
    text = "\n".join(lines(msgspec.structs.replace(mixed, audience="holder", person="alice")))
    assert "bob has been using GPU 5, which you have reserved, since" in text
    assert "GPU 2" not in text


def test_many_processes_are_counted_not_listed() -> None:
    """Many processes are shown as eight and a count, and no command contains half a PID."""
    crowd = tuple(msgspec.structs.replace(PYTHON, pid=4_000_000 + number) for number in range(60))
    text = lines(msgspec.structs.replace(OPENED, violations=(violation(1, 0, *crowd),)))
    assert "    and 52 more" in text
    (stop,) = [line for line in text if "kill" in line]
    assert stop.startswith("  To stop (the first 50 of 60 processes): kill 4000000 ")
    pids = stop.partition(": kill ")[2].split()
    assert pids == [str(one.pid) for one in crowd[: len(pids)]]
    assert len(pids) == 50


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("expired", "has expired"),
        ("exited", "has ended with its process"),
        ("undelivered", "was released: the client disconnected before it got the answer"),
        ("released", "was released by an administrator"),
        (None, "was released by an administrator"),
    ],
)
def test_every_way_a_reservation_ends_has_its_words(reason: str | None, said: str) -> None:
    """Every reason for the end of a reservation has wording, also those without a notice today."""
    held = reservation(reason=reason, gpus=(3,))
    notice = msgspec.structs.replace(SAMPLES["released-holder-admin"].notice, reservation=held)
    assert f"your reservation of GPU 3 {said}" in lines(notice)[0]
