"""The sample notices: one of every kind for every audience, and variants with special wording."""

from typing import Any

import msgspec

from canhazgpu.events.notices import ADDRESS, ADMINS, HOLDER, OFFENDER, Digest, Notice
from canhazgpu.events.reservations import Concerned
from canhazgpu.events.violations import Violation
from canhazgpu.notifiers.messages import sample_facts as facts
from canhazgpu.notifiers.messages.sample_facts import booking, closed, reservation, violation


class Sample(msgspec.Struct, frozen=True):
    """A notice that was never sent; `about` describes it in a sentence."""

    name: str
    about: str
    notice: Notice


def samples() -> list[Sample]:
    """Return all samples, in the order in which a reader would get them."""
    of_violations = (*_begun(), *_special(), *_over(), *_ended_by_force())
    return [*of_violations, *_reservations(), *_bookings(), *_failures(), *_others()]


def _sample(kind: str, audience: str, about: str, variant: str = "", **more: Any) -> Sample:
    people = {OFFENDER: "bob", HOLDER: "alice"}
    values = {
        "episode": "v1012",
        "user": "bob",
        "uid": 1001,
        "person": people.get(audience),
        "created": facts.NOW,
        "contact": facts.CONTACT,
        "serial": 1,
        **more,
    }
    notice = Notice(notice="n2041", kind=kind, host=facts.HOST, audience=audience, **values)
    return Sample("-".join(filter(None, [kind, audience, variant])), about, notice)


TWO = (violation(1012, 2, facts.PYTHON), violation(1013, 4, facts.JUPYTER))
TAKEN = violation(1014, 5, facts.PYTHON, facts.JUPYTER, holder="alice", holder_note="paper deadline")
ELSE = violation(1014, 5, facts.OTHER, holder="alice")
OVER = violation(1015, 6, facts.PYTHON, kind="overstaying")
READERS = {
    OFFENDER: "The offender",
    HOLDER: "The holder of the GPU",
    ADMINS: "Administrators",
    ADDRESS: "An email address from the settings",
}


def _begun() -> list[Sample]:
    joined = violation(1016, 7, facts.INSIDE, since=facts.LATER)
    stages = {
        "opened": ("a violation was confirmed", facts.NOW, 1),
        "changed": ("another GPU is in use", facts.LATER, 2),
        "reminder": ("the violation continues", facts.EVENING, 3),
    }
    found = []
    for kind, (about, created, serial) in stages.items():
        for audience, who in READERS.items():
            seen = (TAKEN,) if audience == HOLDER else TWO
            told = (*seen, joined if audience != HOLDER else _alices(joined)) if kind == "changed" else seen
            more: dict[str, Any] = {"violations": told, "created": created, "serial": serial}
            found.append(_sample(kind, audience, f"{who}: {about}.", **more))
    return found


def _alices(one: Violation) -> Violation:
    return msgspec.structs.replace(one, kind="trespass", holder="alice")


def _special() -> list[Sample]:
    ranks = tuple(violation(1020 + gpu, gpu, *facts.RANKS[gpu]) for gpu in range(8))
    boxed = violation(1030, 0, facts.INSIDE, facts.AS_ROOT)
    unproven = violation(
        1031, 1, facts.NOBODYS, user="root", uid=0, person=None, key="user:root", memory_mb=5120
    )
    hinted = msgspec.structs.replace(unproven, kind="trespass", holder="alice", hint=facts.BOBS_HOME)
    orphan = violation(1032, 1, user="unknown", uid=None, person=None, key="unknown", memory_mb=5120)
    reached: dict[str, Any] = {"violations": TWO, "unreached": True, "serial": 3}
    return [
        _sample("opened", OFFENDER, "The GPU is reserved by somebody else.", "trespass", violations=(TAKEN,)),
        _sample("opened", OFFENDER, "The reservation has ended.", "overstaying", violations=(OVER,)),
        _sample(
            "opened", OFFENDER, "Several kinds of violations at once.", "mixed", violations=(*TWO, ELSE, OVER)
        ),
        _sample(
            "opened",
            OFFENDER,
            "Processes in a container, and processes that run as root.",
            "container",
            violations=(boxed,),
        ),
        _sample("opened", OFFENDER, "Eight GPUs with eight processes each.", "many", violations=ranks),
        _sample(
            "opened",
            HOLDER,
            "The offender could not be notified.",
            "unreached",
            violations=(TAKEN,),
            unreached=True,
        ),
        _sample(
            "opened",
            ADMINS,
            "The holder could not be notified.",
            "holder-unreached",
            violations=(TAKEN,),
            unreached_holder="alice",
        ),
        _sample("opened", ADMINS, "The user is not proven.", "unproven", violations=(unproven,), user="root"),
        _sample("opened", HOLDER, "A hint names a user.", "hinted", violations=(hinted,), user="root"),
        _sample("opened", ADMINS, "A hint names a user.", "hinted", violations=(hinted,), user="root"),
        _sample(
            "opened",
            ADMINS,
            "Memory is used, but no process is visible.",
            "unknown",
            violations=(orphan,),
            user="unknown",
        ),
        _sample(
            "reminder",
            ADMINS,
            "The offender could not be notified.",
            "unreached",
            created=facts.EVENING,
            **reached,
        ),
    ]


def _over() -> list[Sample]:
    two = (closed(1012, 2), closed(1013, 4, reason="reserved", closed=facts.LATER))
    mine = (closed(1014, 5, holder="alice"),)
    told: dict[str, Any] = {"created": facts.EVENING, "serial": 4}
    return [
        _sample(
            "resolved",
            who,
            f"{about}: the violation has ended.",
            violations=mine if who == HOLDER else two,
            **told,
        )
        for who, about in READERS.items()
    ]


def _ended_by_force() -> list[Sample]:
    told: dict[str, Any] = {"violations": TWO, "created": facts.EVENING, "serial": 5}
    return [
        _sample("terminate", OFFENDER, "The offender: their processes are being terminated.", **told),
        _sample("terminate", OFFENDER, "The same, as a dry run.", "dry-run", dry_run=True, **told),
        _sample("terminate", ADMINS, "Administrators: processes are being terminated.", **told),
    ]


def _reservations() -> list[Sample]:
    return [made for row in _HELD for made in _held(*row)]


def _held(kind: str, variant: str, about: str, values: dict[str, Any], **more: Any) -> list[Sample]:
    held = {"user": "alice", "uid": 1002, "reservation": reservation(**values), "episode": "r1187", **more}
    mine = _sample(kind, HOLDER, f"The holder: {about}", variant, **held)
    if variant not in ("", "admin"):
        return [mine]
    return [mine, _sample(kind, ADMINS, f"Readers other than the holder: {about}", variant, **held)]


_TURN = {"queued": "2026-11-24T05:02:12.000Z", "started": facts.NOW}
_NOTE = {"note": "paper deadline"}
_LEFT = "2026-11-24T09:30:55.000Z"
_IDLE = {"idle": "2026-11-24T07:15:55.000Z", **_NOTE}
_HELD: list[tuple[Any, ...]] = [
    ("granted", "", "a waiting request got its GPUs.", {**_TURN, "expires": facts.EVENING}),
    ("granted", "run", "a waiting command got its GPUs.", {**_TURN, "pid": 4711}),
    ("expiring", "", "the reservation expires soon.", {"expires": _LEFT, **_NOTE}),
    (
        "idle",
        "",
        "the GPUs are idle and will be released.",
        {**_IDLE, "deadline": "2026-11-24T10:15:55.000Z"},
    ),
    ("idle", "run", "a command is not using its GPUs.", {**_IDLE, "pid": 4711}),
    (
        "released",
        "admin",
        "an administrator released the reservation.",
        {"reason": "admin", "by": "root", "kept": (6,), **_NOTE},
    ),
    ("released", "idle", "the reservation was idle for too long.", {"reason": "idle", **_IDLE}),
    ("released", "no-show", "a booked GPU was never used.", {"reason": "no_show", **_IDLE}),
    ("released", "lost", "the service lost the reservation.", {"reason": "lost", "pid": 4711}),
    (
        "released",
        "unmanaged",
        "the GPU is no longer managed.",
        {"reason": "unmanaged", "by": "root", "gpus": (3,)},
    ),
    (
        "released",
        "vanished",
        "the driver no longer finds the GPU.",
        {"reason": "vanished", "gpus": (8,), "was": (3,), "kept": (6,)},
    ),
    (
        "unreserved",
        "",
        "a command continues without its reservation.",
        {"pid": 4711, "reason": "released", "by": "alice"},
    ),
    ("timeout", "", "a command has reached its timeout.", {"pid": 4711, **_NOTE}),
]


def _bookings() -> list[Sample]:
    named, late = {"gpus": (2, 3)}, {"obstacles": (facts.OVER_TIME, facts.DRAINED)}
    begun = {**named, "reservation": "r1190", "deadline": "2026-11-24T10:15:55.000Z"}
    told: list[tuple[str, str, str, dict[str, Any]]] = [
        ("reminder", "", "the booking begins soon.", {}),
        ("reminder", "named", "a booking of certain GPUs begins soon.", named),
        ("begun", "", "the booking has become a reservation.", begun),
        ("late", "", "the GPUs are not free.", late),
        ("missed", "", "the GPUs were never free.", {"reason": "late"}),
        ("missed", "off", "the service was not running.", {"reason": "off"}),
    ]
    about: dict[str, Any] = {"user": "alice", "uid": 1002, "episode": "b1187"}
    planned = {"gpus": (0, 1, 2, 3), "count": 4, "drain": "new cooler", "note": "new cooler"}
    held = Concerned(user="alice", uid=1002, reservation="r1187", gpus=(1, 3))
    booked = Concerned(user="alice", uid=1002, booking="b1180")
    maintenance = [
        ("planned", "", "a reservation lasts into maintenance.", (held,)),
        ("planned", "booking", "maintenance leaves a booking without GPUs.", (booked,)),
        ("reminder", "", "maintenance begins soon.", (held,)),
        ("begun", "", "maintenance has begun on reserved GPUs.", (held,)),
    ]
    return [
        _sample(
            f"maintenance-{kind}",
            HOLDER,
            f"The user: {text}",
            variant,
            booking=msgspec.structs.replace(booking(**planned, concerned=concerned), user="root", uid=0),
            **about,
        )
        for kind, variant, text, concerned in maintenance
    ] + [
        _sample(f"booking-{kind}", HOLDER, f"The user: {text}", variant, booking=booking(**values), **about)
        for kind, variant, text, values in told
    ]


def _failures() -> list[Sample]:
    pairs = {
        ("stalled", "resumed"): (
            facts.SCANNER,
            "the GPUs cannot be scanned",
            "the GPUs can be scanned again",
        ),
        ("gpu-failed", "gpu-recovered"): (facts.GPU, "a GPU has failed", "a GPU is working again"),
        ("channel-failing", "channel-recovered"): (
            facts.CHANNEL,
            "a channel is failing",
            "a channel is working again",
        ),
    }
    found = []
    for kinds, (incident, begin, end) in pairs.items():
        over = msgspec.structs.replace(incident, ended=facts.LATER)
        for kind, one, about in zip(kinds, (incident, over), (begin, end), strict=True):
            about_it = f"Administrators: {about}."
            found.append(_sample(kind, ADMINS, about_it, user="", uid=None, incident=one))
    return found


def _others() -> list[Sample]:
    quiet = Digest(since=facts.DIGEST.since, until=facts.DIGEST.until)
    nobody: dict[str, Any] = {"user": "", "uid": None}
    return [
        _sample("digest", ADMINS, "Administrators: a summary of one day.", digest=facts.DIGEST, **nobody),
        _sample("digest", ADMINS, "A day without violations or failures.", "quiet", digest=quiet, **nobody),
        _sample("test", OFFENDER, "The user who ran `notify test`."),
    ]
