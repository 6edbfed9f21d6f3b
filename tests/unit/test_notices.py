"""The wording of notices for each kind and audience: facts, suggested commands, and the contact."""

import re

import msgspec
import pytest

from canhazgpu.events.contract.values import AUDIENCES, NOTICE_KINDS, VIOLATION_NOTICES
from canhazgpu.events.notices import ADMINS, OFFENDER, Notice
from canhazgpu.notifiers.messages.plain_text import QUESTIONS, headline, lines, subject
from canhazgpu.notifiers.messages.sample_facts import PYTHON, reservation, violation
from canhazgpu.notifiers.messages.sample_notices import Sample, samples

SAMPLES = {one.name: one for one in samples()}
OPENED = SAMPLES["opened-offender"].notice
EVERY = pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)

SAYS = {
    "opened-offender": [
        "bob, you have been using GPUs 2 and 4 without a reservation since 2026-11-24 09:15:47 UTC. [n2041]",
        "Please use canhazgpu for GPU reservations.",
        "To keep GPUs 2 and 4: canhazgpu reserve --gpu-ids 2,4 --duration 4h",
        "To stop: kill 12345 67890",
        "To mute these notices while you finish: canhazgpu silence ack --for 1h",
        "PID 12345 (python3), 768MB",
        "Next time: canhazgpu run --gpus 2 -- COMMAND",
        "canhazgpu violations show v1012",
    ],
    "opened-offender-trespass": [
        "bob, you have been using GPU 5, which alice has reserved, since",
        "Please make room for alice",
        'alice\'s reservation has the note "paper deadline".',
        "To free GPU 5: kill 12345 67890",
        "To run on reserved GPUs: canhazgpu run --gpus 1 --wait -- COMMAND",
    ],
    "opened-offender-overstaying": [
        "you have been using GPU 6 beyond the end of your reservation, since 2026",
        "canhazgpu reserve --gpu-ids 6 ",
    ],
    "opened-offender-mixed": [
        "GPUs 2 and 4 without a reservation, and GPU 5, which alice has reserved, and GPU 6 beyond the end",
        "To keep GPUs 2, 4 and 6: canhazgpu reserve --gpu-ids 2,4,6 ",
        "To free GPU 5: kill 78901",
    ],
    "opened-offender-container": [
        "podman stop 3f2a9c51d0b7; sudo kill 34567",
        "PID 23456 (python3), 4096MB in podman container 3f2a9c51d0b7…",
    ],
    "opened-holder": [
        "alice, bob has been using GPU 5, which you have reserved, since 2026-11-24 09:15:47 UTC.",
        "Your reservation stays valid.",
        "PID 67890 (jupyter), 256MB",
        "canhazgpu status",
    ],
    "opened-holder-unreached": ["bob could not be notified"],
    "opened-admins": [
        "bob has been using GPUs 2 and 4 without a reservation since 2026-11-24 09:15:47 UTC.",
        "The user is bob, identified by the uid of the processes.",
        "ps -o user,pid,ppid,lstart,args -p 12345,67890",
        "canhazgpu silence add --user bob --for 2h --reason 'as agreed'",
    ],
    "opened-admins-holder-unreached": ["alice, who has reserved the GPU, could not be notified: no channel"],
    "opened-admins-unproven": [
        "The processes run as root. It is not proven who started them, so no user was"
    ],
    "opened-holder-hinted": [
        "alice, root has been using GPU 1, which you have reserved",
        "This is a hint, not proof: the processes may belong to bob, because /home/bob is mounted in",
        "If this does not end soon, contact an administrator.",
    ],
    "opened-admins-hinted": [
        "It is not proven who started them, so no user was notified.",
        "This is a hint, not proof: the processes may belong to bob, because /home/bob is mounted in",
    ],
    "opened-admins-unknown": [
        "An unknown user has been using GPU 1",
        "no visible process",
        "canhazgpu silence add --gpu 1 ",
    ],
    "opened-address": [
        "bob has been using GPUs 2 and 4 without a reservation",
        "canhazgpu violations show v1012",
    ],
    "changed-offender": ["bob, you are now using GPUs 2, 4 and 7", "since 2026-11-24 09:40:02 UTC"],
    "changed-holder": ["bob is now using GPUs 5 and 7, which you have reserved", "Your reservation stays"],
    "changed-admins": [
        "bob is now using GPUs 2, 4 and 7 without a reservation",
        "This is notice 2 about this episode.",
    ],
    "changed-address": ["bob is now using GPUs 2, 4 and 7 without a reservation"],
    "reminder-offender": ["bob, you have now been using GPUs 2 and 4 without a reservation for 4h, since"],
    "reminder-holder": ["bob has now been using GPU 5, which you have reserved, for 4h, since"],
    "reminder-admins": ["bob has now been using GPUs 2 and 4", "This is notice 3 about this episode."],
    "reminder-admins-unreached": [
        "bob could not be notified: no channel reached them. Please contact them yourself."
    ],
    "reminder-address": ["bob has now been using GPUs 2 and 4"],
    "resolved-offender": [
        "bob, resolved: you are no longer using GPUs 2 and 4 without a reservation.",
        "GPU 2 (NVIDIA H100 80GB HBM3), v1012: 2026-11-24 09:15:47 UTC to 2026-11-24 13:02:11 UTC (3h46m)",
        "(3h46m), peak 1792MB; the processes have ended",
        "the GPU is reserved now",
        "Thank you.",
    ],
    "resolved-holder": [
        "alice, resolved: bob is no longer using GPU 5, which you have reserved.",
        "to 2026-11-24 13:02:11 UTC (3h46m)",
        "Nobody else is using it now.",
    ],
    "resolved-admins": ["Resolved: bob is no longer using GPUs 2 and 4"],
    "resolved-address": ["Resolved: bob is no longer using GPUs 2 and 4"],
    "terminate-offender": [
        "bob, your processes on GPUs 2 and 4 are being terminated.",
        "SIGINT, then SIGTERM, then SIGKILL",
        "PID 12345 (python3), 768MB",
    ],
    "terminate-offender-dry-run": ["would be terminated now, but this is a dry run"],
    "terminate-admins": ["The processes of bob on GPUs 2 and 4 are being terminated."],
    "granted-holder": [
        "alice, GPUs 1 and 3 are yours now",
        "Reserved until 2026-11-24 13:15:55 UTC.",
        "To use them in a shell: export",
        "export CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=1,3",
    ],
    "granted-admins": ["GPUs 1 and 3 are alice's now"],
    "granted-holder-run": ["Your command starts now", "PID 4711"],
    "expiring-holder": [
        "alice, your reservation of GPUs 1 and 3 expires in 15m, at 2026-11-24 09:30:55 UTC.",
        "canhazgpu extend --gpu-ids 1,3 --duration 4h",
        "paper deadline",
    ],
    "expiring-admins": ["alice's reservation of GPUs 1 and 3 expires in 15m"],
    "idle-holder": [
        "alice, you have not used GPUs 1 and 3 for 2h, since 2026-11-24 07:15:55 UTC",
        "The reservation will be released at 2026-11-24 10:15:55 UTC unless its GPUs are used before then.",
        "canhazgpu release --gpu-ids 1,3",
    ],
    "idle-admins": ["alice has not used GPUs 1 and 3 for 2h"],
    "idle-holder-run": ["To end the run: kill 4711", "canhazgpu release --gpu-ids 1,3"],
    "released-holder-admin": [
        "alice, your reservation of GPUs 1 and 3 was released by root.",
        "GPU 6 is still reserved.",
        "canhazgpu reserve --gpus 2 --duration 4h",
    ],
    "released-admins-admin": ["alice's reservation of GPUs 1 and 3 was released by root."],
    "released-holder-idle": ["was released: it had been idle since 2026-11-24 07:15:55 UTC."],
    "released-holder-lost": ["was lost", "canhazgpu reserve --gpu-ids 1,3 --duration 4h", "kill 4711"],
    "released-holder-unmanaged": ["was released by root, who has taken it out of allocation."],
    "released-holder-vanished": ["your reservation of GPU 3 was released: the driver no longer finds it."],
    "unreserved-holder": [
        "alice, your run continues, but GPUs 1 and 3 are no longer reserved for it.",
        "To reserve them again: canhazgpu reserve --gpu-ids 1,3 --duration 4h",
        "To stop the run: kill 4711",
    ],
    "unreserved-admins": ["alice's run continues, but GPUs 1 and 3 are no longer reserved for it."],
    "timeout-holder": [
        "alice, your run on GPUs 1 and 3 has reached its timeout and is being interrupted.",
        "canhazgpu run --gpus 2 --timeout 8h -- COMMAND",
    ],
    "timeout-admins": ["alice's run on GPUs 1 and 3 has reached its timeout"],
    "booking-reminder-holder": [
        "alice, your booking of 2 GPUs begins in 14m, at 2026-11-24 09:30:00 UTC.",
        "The GPUs are chosen when it begins.",
        "canhazgpu cancel b1187",
    ],
    "booking-reminder-holder-named": ["your booking of GPUs 2 and 3 begins in 14m", "canhazgpu cancel b1187"],
    "booking-begun-holder": [
        "alice, your booking has begun: GPUs 2 and 3 are reserved.",
        "Reserved until 2026-11-24 13:30:00 UTC.",
        'code=$(canhazgpu env) && eval "$code"',
        "canhazgpu release --gpu-ids 2,3",
    ],
    "booking-late-holder": [
        "alice, your booking of 2 GPUs cannot begin yet: not enough GPUs are free.",
        "before all requests in the queue",
        "GPU 2  reserved by bob, should have ended",
        "GPU 3  is drained",
        "canhazgpu cancel b1187",
    ],
    "booking-missed-holder": ["has ended and never began.", "Its GPUs were not free until its end."],
    "booking-missed-holder-off": ["has ended and never began.", "was not running at that time"],
    "stalled-admins": [
        "Scanning stopped at 2026-11-24 09:14:10 UTC: the driver has not answered for 60 s.",
        "Look for Xid errors",
        "canhazgpu doctor",
    ],
    "resumed-admins": [
        "Scanning is working again.",
        "The problem lasted 26m, from 2026-11-24 09:14:10 UTC to",
    ],
    "gpu-failed-admins": ["GPU 3 failed at 2026-11-24", "canhazgpu admin drain 3 ", "Reset the GPU"],
    "gpu-recovered-admins": ["GPU 3 is working again.", "GPU is lost."],
    "channel-failing-admins": [
        "Delivery by email has been failing since 2026-11-24 09:05:00 UTC: 451 4.3.0",
        "canhazgpu notify test --channel email",
    ],
    "channel-recovered-admins": ["Delivery by email is working again."],
    "digest-admins": [
        "6 violations by 3 users, from 2026-11-23 08:00:00 UTC to 2026-11-24 08:00:00 UTC.",
        "13.8 GPU-hours",
        "Repeat offenders: bob.",
        "1 violation could not be reported to the user",
        "bob    4           11.3       1           -",
        "alice  6     run     2026-11-24 01:10:00 UTC",
        "webhook:chat  1",
        "gpu/3          2026-11-24 09:14:10 UTC  ongoing   GPU is lost",
        "canhazgpu violations --since 2026-11-23T08:00:00Z --until 2026-11-24T08:00:00Z",
    ],
    "digest-admins-quiet": ["All quiet", "There were no violations, no idle reservations and no failures."],
    "test-offender": ["bob, this is a test message. It works."],
}
NEVER_SAYS = {
    "opened-offender-trespass": ["silence ack", "--gpu-ids 5"],  # It is not theirs to keep.
    "opened-offender-mixed": ["silence ack", "2,4,5"],
    "opened-holder": ["kill", "without a reservation"],
    "opened-admins": ["you are", "silence ack", "could not be notified", "kill"],
    "opened-address": ["silence", "ps -o"],
    "resolved-admins": ["Thank you"],
    "terminate-offender-dry-run": ["kill"],
    "granted-admins": ["yours", "canhazgpu extend"],
    "expiring-admins": ["canhazgpu extend"],
    "idle-holder-run": ["will be released at"],
    "digest-admins-quiet": ["canhazgpu violations"],
}


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
    assert len(kinds) == 23
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
