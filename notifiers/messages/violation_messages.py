"""The wording of notices about violations, for the offender, the holder and the administrators."""

from collections.abc import Sequence

import msgspec

from canhazgpu.events.notices import ADMINS, HOLDER, OFFENDER, Notice
from canhazgpu.events.sanitize import LONGEST_WORDS, printable
from canhazgpu.events.violations import Violation
from canhazgpu.notifiers.messages.content import Commands, Content, Part, Sentence, Uses
from canhazgpu.notifiers.messages.gpu_usage import use_of
from canhazgpu.notifiers.messages.phrases import capitalised, gpus, joined, length, moment, reader_of
from canhazgpu.notifiers.messages.suggested_commands import (
    future_command,
    inspection_commands,
    others_like,
    remedies,
    stop_commands,
)

NAMELESS = ("", "unknown")
VERBS = {  # Addressed to the offender, and about the offender.
    "opened": ("you are using", "is using"),
    "changed": ("you are now using", "is now using"),
    "reminder": ("you are still using", "is still using"),
    "resolved": ("you are no longer using", "is no longer using"),
}
VERBS_WITH_SINCE = VERBS | {  # In a sentence that ends with "since".
    "opened": ("you have been using", "has been using"),
    "reminder": ("you have now been using", "has now been using"),
}
PROOFS = {
    "reservation": "the reservation that the processes belong to",
    "uid": "the uid of the processes",
    "subuid": "the owner of the processes' subordinate uids",
    "slice": "the systemd slice of the processes",
    "loginuid": "the login that started the processes",
}


class Case(msgspec.Struct, frozen=True):
    """A notice about violations, with the violations that are relevant to its reader."""

    notice: Notice
    reader: str
    violations: tuple[Violation, ...]

    @property
    def user(self) -> str:
        """The user that the notice is about."""
        return "an unknown user" if self.notice.user in NAMELESS else printable(self.notice.user)

    @property
    def gpus(self) -> str:
        """The GPUs of these violations."""
        return gpus(one.gpu for one in self.violations)

    @property
    def holders(self) -> list[str]:
        """The users whose reserved GPUs are used."""
        return sorted({printable(one.holder) for one in self.violations if one.holder})

    def greet(self, sentence: str) -> str:
        """Return the sentence, addressed to the reader by name if the reader is a user."""
        if self.reader == OFFENDER:
            return f"{self.user}, {sentence}"
        return (
            f"{printable(self.notice.person or '')}, {sentence}"
            if self.reader == HOLDER
            else self.open(sentence)
        )

    def open(self, sentence: str) -> str:
        """Return the sentence starting with a capital letter or a user name."""
        return capitalised(sentence, printable(self.notice.user))

    def doing(self, verbs: tuple[str, str]) -> str:
        """Return the clause that says who uses which GPUs, and how."""
        who = verbs[0] if self.reader == OFFENDER else f"{self.user} {verbs[1]}"
        kinds: dict[str, list[int]] = {}
        for one in self.violations:
            kinds.setdefault(self._without_right(one), []).append(one.gpu)
        return f"{who} {', and '.join(gpus(numbers) + how for how, numbers in kinds.items()) or 'no GPU'}"

    def _without_right(self, one: Violation) -> str:
        if one.holder:
            yours = self.reader == HOLDER and one.holder == self.notice.person
            return ", which you have reserved" if yours else f", which {printable(one.holder)} has reserved"
        if one.kind == "overstaying":
            return f" beyond the end of {'your' if self.reader == OFFENDER else 'their'} reservation"
        return " without a reservation"


def describe_violations(notice: Notice) -> Content:
    """Return the content of opened, changed, reminder, resolved and terminate notices."""
    reader = reader_of(notice)
    theirs = tuple(one for one in notice.violations if one.holder and one.holder == notice.person)
    case = Case(notice, reader, theirs if reader == HOLDER and theirs else notice.violations)
    if notice.kind == "resolved":
        return _resolved(case)
    return _terminated(case) if notice.kind == "terminate" else _lasting(case)


def _lasting(case: Case) -> Content:
    doing = case.doing(VERBS[case.notice.kind])
    lasting = case.doing(VERBS_WITH_SINCE[case.notice.kind])
    tell = {OFFENDER: _to_offender, HOLDER: _to_holder}.get(case.reader, _to_others)
    untold = case.notice.unreached and case.reader != OFFENDER
    return Content(
        subject=f"{doing}, and could not be notified" if untold else doing,
        headline=case.greet(f"{lasting}{_since(case)}."),
        parts=tuple(tell(case)),
        mood="bad",
    )


def _since(case: Case) -> str:
    """Return how long it has lasted, after a comma if the clause before could seem to include it."""
    moments = sorted({moment(one.since) for one in case.violations})
    first = min((one.since for one in case.violations), default="")
    lasted = length(first, case.notice.created) if case.notice.kind == "reminder" else ""
    since = f"since {moments[0] if moments else moment(None)}"
    if len(moments) > 1:
        return f", {f'for {lasted}, ' if lasted else ''}the first of them {since}"
    comma = "," if any(one.kind != "unreserved" for one in case.violations) else ""
    return f"{comma} {f'for {lasted}, ' if lasted else ''}{since}"


def _to_offender(case: Case) -> list[Part]:
    title = "Please use canhazgpu for GPU reservations. Choose one of these:"
    if case.holders:
        title = f"Please make room for {joined(case.holders)} and use canhazgpu for GPU reservations:"
    return [
        Commands(title, tuple(remedies(case.violations, may_ack=case.notice.may_ack))),
        *_notes(case),
        _seen(case),
        Commands("", (*future_command(case.violations), *inspection_commands(case.violations)), aside=True),
    ]


def _to_holder(case: Case) -> list[Part]:
    like = others_like(case.violations)
    elsewhere = [("To use other GPUs meanwhile", f"canhazgpu reserve {like} --duration 4h")]
    if like.startswith("--gpu-ids"):
        elsewhere = []  # These are the same ones.
    proven = any(violation.person for violation in case.violations)
    whom = f"{case.user} or an administrator" if proven else "an administrator"
    return [
        Sentence(f"Your reservation stays valid. If this does not end soon, contact {whom}."),
        *_hints(case),
        *_unreached(case),
        _seen(case),
        Commands(
            "",
            (*elsewhere, *inspection_commands(case.violations)),
            aside=True,
        ),
    ]


def _to_others(case: Case) -> list[Part]:
    numbered = case.notice.serial > 1 and case.notice.kind != "opened"
    counted = [Sentence(f"This is notice {case.notice.serial} about this episode.")] if numbered else []
    return [
        *_unreached(case),
        Sentence(_whose(case)),
        *_hints(case),
        *_notes(case),
        *counted,
        _seen(case),
        Commands(
            "",
            tuple(inspection_commands(case.violations, case.notice.user, manage=case.reader == ADMINS)),
            aside=True,
        ),
    ]


def _unreached(case: Case) -> list[Part]:
    asked = " Please contact them yourself." if case.reader == ADMINS else ""
    who = [case.open(case.user)] if case.notice.unreached else []
    if case.notice.unreached_holder:
        who.append(f"{printable(case.notice.unreached_holder)}, who has reserved the GPU,")
    return [Sentence(f"{one} could not be notified: no channel reached them.{asked}") for one in who]


def _whose(case: Case) -> str:
    proofs = sorted({one.evidence for one in case.violations if one.person})
    if proofs:
        found = joined([PROOFS.get(one, printable(one)) for one in proofs])
        return f"The user is {case.user}, identified by {found}."
    if case.notice.user in NAMELESS:
        return "The user could not be determined, so no user was notified."
    return f"The processes run as {case.user}. It is not proven who started them, so no user was notified."


def _notes(case: Case) -> list[Part]:
    quoted = dict.fromkeys((one.holder or "", one.holder_note) for one in case.violations if one.holder_note)
    return [
        Sentence(f'{printable(who)}\'s reservation has the note "{printable(note or "", LONGEST_WORDS)}".')
        for who, note in quoted
    ]


def _hints(case: Case) -> list[Part]:
    hints = dict.fromkeys(one.hint for one in case.violations if one.hint and not one.person)
    return [
        Sentence(
            f"This is a hint, not proof: the processes may belong to {printable(hint.user)},"
            f" because {printable(hint.source, LONGEST_WORDS)}."
        )
        for hint in hints
    ]


def _seen(case: Case, title: str = "Detected use:") -> Uses:
    return Uses(title, tuple(use_of(one, ended=case.notice.kind == "resolved") for one in case.violations))


def _resolved(case: Case) -> Content:
    doing = case.doing(VERBS["resolved"])
    free = bool(case.violations) and all(one.reason == "stopped" for one in case.violations)
    many = len(case.violations) > 1
    alone = Sentence(f"Nobody else is using {'them' if many else 'it'} now.")
    tail: Sequence[Part] = {
        OFFENDER: [Sentence("Thank you.")],
        HOLDER: [alone] if free and case.holders else [],
    }.get(case.reader, [Commands("", tuple(inspection_commands(case.violations)), aside=True)])
    return Content(
        subject=f"resolved: {doing}",
        headline=case.greet(f"resolved: {doing}."),
        parts=(_seen(case, "Duration and end:"), *tail),
        mood="good",
    )


def _terminated(case: Case) -> Content:
    whose = "your processes" if case.reader == OFFENDER else f"the processes of {case.user}"
    if case.notice.dry_run:
        what = f"{whose} on {case.gpus} would be terminated now, but this is a dry run"
        how = "Without notices.terminate.dry_run, the processes would get SIGINT, SIGTERM and SIGKILL."
    else:
        what = f"{whose} on {case.gpus} are being terminated"
        how = "The processes get SIGINT, then SIGTERM, then SIGKILL, with time in between to save their work."
    doing = case.open(case.doing(VERBS_WITH_SINCE["opened"]))
    why = f"{doing}{_since(case)}, and earlier notices had no effect."
    own: list[tuple[str, str]] = []
    if case.reader == OFFENDER:
        own = [*([] if case.notice.dry_run else stop_commands(case.violations, "To stop them yourself"))]
        own += future_command(case.violations)
    return Content(
        subject=what,
        headline=case.greet(f"{what}."),
        parts=(
            Sentence(f"{why} {how}"),
            _seen(case),
            Commands("", (*own, *inspection_commands(case.violations)), aside=True),
        ),
        mood="bad",
    )
