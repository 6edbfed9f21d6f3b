"""The sample notices: one of every kind for every reader, and those whose words are special."""

from typing import Any

import msgspec

from canhazgpu.events.notices import ADDRESS, ADMINS, HOLDER, OFFENDER, Digest, Notice
from canhazgpu.events.violations import Violation
from canhazgpu.notifiers import sample_facts as facts
from canhazgpu.notifiers.sample_facts import closed, reservation, violation


class Sample(msgspec.Struct, frozen=True):
    """A notice that nobody was sent; `about` says in a sentence what it is."""

    name: str
    about: str
    notice: Notice


def samples() -> list[Sample]:
    """Return every sample, in the order in which a reader would meet them."""
    return [*_begun(), *_special(), *_over(), *_ended_by_force(), *_reservations(), *_failures(), *_others()]


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
TAKEN = violation(1014, 5, facts.PYTHON, facts.JUPYTER, holder="alice")
ELSE = violation(1014, 5, facts.OTHER, holder="alice")
OVER = violation(1015, 6, facts.PYTHON, kind="overstaying")
READERS = {
    OFFENDER: "Who does it",
    HOLDER: "Whose reserved GPU is used",
    ADMINS: "The administrators",
    ADDRESS: "Somebody else, by an address in the settings",
}


def _begun() -> list[Sample]:
    joined = violation(1016, 7, facts.INSIDE, since=facts.LATER)
    stages = {
        "opened": ("use without the right to it was confirmed", facts.NOW, 1),
        "changed": ("one more GPU has joined", facts.LATER, 2),
        "reminder": ("it goes on", facts.EVENING, 3),
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
        _sample("opened", OFFENDER, "On somebody else's GPU: whose it is.", "trespass", violations=(TAKEN,)),
        _sample("opened", OFFENDER, "After a reservation's end.", "overstaying", violations=(OVER,)),
        _sample("opened", OFFENDER, "Several wrongs at a time.", "mixed", violations=(*TWO, ELSE, OVER)),
        _sample("opened", OFFENDER, "In a container, and as root.", "container", violations=(boxed,)),
        _sample("opened", OFFENDER, "Eight GPUs with eight processes each.", "many", violations=ranks),
        _sample(
            "opened",
            HOLDER,
            "Who does it could not be told.",
            "unreached",
            violations=(TAKEN,),
            unreached=True,
        ),
        _sample(
            "opened",
            ADMINS,
            "Whose GPU it is could not be told.",
            "holder-unreached",
            violations=(TAKEN,),
            unreached_holder="alice",
        ),
        _sample(
            "opened", ADMINS, "Nothing proves whose it is.", "unproven", violations=(unproven,), user="root"
        ),
        _sample(
            "opened", HOLDER, "A hint says whose it may be.", "hinted", violations=(hinted,), user="root"
        ),
        _sample(
            "opened", ADMINS, "A hint says whose it may be.", "hinted", violations=(hinted,), user="root"
        ),
        _sample(
            "opened", ADMINS, "Memory without a process.", "unknown", violations=(orphan,), user="unknown"
        ),
        _sample(
            "reminder",
            ADMINS,
            "Who does it could not be told.",
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
        _sample("resolved", who, f"{about}: it is over.", violations=mine if who == HOLDER else two, **told)
        for who, about in READERS.items()
    ]


def _ended_by_force() -> list[Sample]:
    told: dict[str, Any] = {"violations": TWO, "created": facts.EVENING, "serial": 5}
    return [
        _sample("terminate", OFFENDER, "Who does it: their processes are being ended.", **told),
        _sample("terminate", OFFENDER, "The same in a rehearsal.", "dry-run", dry_run=True, **told),
        _sample("terminate", ADMINS, "The administrators: processes are being ended.", **told),
    ]


def _reservations() -> list[Sample]:
    return [made for row in _HELD for made in _held(*row)]


def _held(kind: str, variant: str, about: str, values: dict[str, Any], **more: Any) -> list[Sample]:
    held = {"user": "alice", "uid": 1002, "reservation": reservation(**values), "episode": "r1187", **more}
    mine = _sample(kind, HOLDER, f"Whose it is: {about}", variant, **held)
    if variant not in ("", "admin"):
        return [mine]
    return [mine, _sample(kind, ADMINS, f"Everybody, by `wall`: {about}", variant, **held)]


_TURN = {"queued": "2026-11-24T05:02:12.000Z", "started": facts.NOW}
_NOTE = {"note": "paper deadline"}
_LEFT = "2026-11-24T09:30:55.000Z"
_IDLE = {"idle": "2026-11-24T07:15:55.000Z", **_NOTE}
_HELD: list[tuple[Any, ...]] = [
    ("granted", "", "a request got its GPUs.", {**_TURN, "expires": facts.EVENING}),
    ("granted", "run", "a command got its GPUs.", {**_TURN, "pid": 4711}),
    ("expiring", "", "it ends soon.", {"expires": _LEFT, **_NOTE}),
    (
        "idle",
        "",
        "its GPUs are not used, and will be released.",
        {**_IDLE, "deadline": "2026-11-24T10:15:55.000Z"},
    ),
    ("idle", "run", "a command does not use its GPUs.", {**_IDLE, "pid": 4711}),
    (
        "released",
        "admin",
        "an administrator ended it.",
        {"reason": "admin", "by": "root", "kept": (6,), **_NOTE},
    ),
    ("released", "idle", "it was idle for too long.", {"reason": "idle", **_IDLE}),
    ("released", "lost", "the service has lost it.", {"reason": "lost", "pid": 4711}),
    (
        "released",
        "unmanaged",
        "an administrator took the GPU away.",
        {"reason": "unmanaged", "by": "root", "gpus": (3,)},
    ),
    (
        "released",
        "vanished",
        "the driver has not found the GPU for long.",
        {"reason": "vanished", "gpus": (8,), "was": (3,), "kept": (6,)},
    ),
    ("unreserved", "", "its command goes on without.", {"pid": 4711, "reason": "released", "by": "alice"}),
    ("timeout", "", "the time of a command is over.", {"pid": 4711, **_NOTE}),
]


def _failures() -> list[Sample]:
    pairs = {
        ("stalled", "resumed"): (
            facts.SCANNER,
            "the GPUs cannot be looked at",
            "they can be looked at again",
        ),
        ("gpu-failed", "gpu-recovered"): (facts.GPU, "a GPU has failed", "it works again"),
        ("channel-failing", "channel-recovered"): (facts.CHANNEL, "a channel fails", "it works again"),
    }
    found = []
    for kinds, (incident, begin, end) in pairs.items():
        over = msgspec.structs.replace(incident, ended=facts.LATER)
        for kind, one, about in zip(kinds, (incident, over), (begin, end), strict=True):
            about_it = f"The administrators: {about}."
            found.append(_sample(kind, ADMINS, about_it, user="", uid=None, incident=one))
    return found


def _others() -> list[Sample]:
    quiet = Digest(since=facts.DIGEST.since, until=facts.DIGEST.until)
    nobody: dict[str, Any] = {"user": "", "uid": None}
    return [
        _sample(
            "digest", ADMINS, "The administrators: what happened in a day.", digest=facts.DIGEST, **nobody
        ),
        _sample("digest", ADMINS, "A day on which nothing happened.", "quiet", digest=quiet, **nobody),
        _sample("test", OFFENDER, "Whoever asked for it, by `notify test`."),
    ]
