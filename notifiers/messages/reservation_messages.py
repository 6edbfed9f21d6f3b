"""The wording of notices about reservations: granted, expiring, idle, released, unreserved, timeout."""

from collections.abc import Callable

import msgspec

from canhazgpu.events.gpu import AMD, vendor_of
from canhazgpu.events.notices import HOLDER, OFFENDER, Notice
from canhazgpu.events.reservations import KUBERNETES, PBS, RUN, SLURM, Reservation
from canhazgpu.events.sanitize import printable
from canhazgpu.events.spelling.gpu_numbers import is_instance, without_parts
from canhazgpu.notifiers.messages.content import Commands, Content, Part, Sentence, Table
from canhazgpu.notifiers.messages.phrases import (
    FOR,
    as_many,
    capitalised,
    gpus,
    length,
    listed,
    moment,
    reader_of,
)

Row = tuple[str, str]
ENDS_JOB = {SLURM: "scancel", PBS: "qdel"}  # The schedulers' own commands.
STATUS = Commands("", (("To see all GPUs", "canhazgpu status"),), aside=True)


class Case(msgspec.Struct, frozen=True):
    """A notice about a reservation, with the words that its sentences need."""

    notice: Notice
    held: Reservation

    @property
    def yours(self) -> bool:
        """Whether the reader is the holder."""
        return reader_of(self.notice) in (OFFENDER, HOLDER)

    @property
    def user(self) -> str:
        """The holder."""
        return printable(self.held.user)

    @property
    def whose(self) -> str:
        """The holder as a possessive: `your` or `alice's`."""
        return "your" if self.yours else f"{self.user}'s"

    @property
    def gpus(self) -> str:
        """The GPUs; those that are gone, with the numbers that they had."""
        return gpus(self.held.was or self.held.gpus)

    @property
    def many(self) -> bool:
        """Whether there are several GPUs."""
        return len(without_parts(self.held.gpus)) > 1

    @property
    def ids(self) -> str:
        """The GPUs in the syntax of `--gpu-ids`."""
        return listed(self.held.gpus)

    @property
    def is_run(self) -> bool:
        """Whether the reservation belongs to `canhazgpu run`."""
        return self.held.kind == RUN

    def reserve(self, *, these: bool = False) -> str:
        """Return the command that reserves the same number of GPUs, or exactly these."""
        what = f"--gpu-ids {self.ids}" if these else as_many(self.held.gpus)
        return f"canhazgpu reserve {what} --duration {FOR}"

    def content(
        self, what: str, meaning: str, rows: list[Row], *, mood: str = "plain", more: str = ""
    ) -> Content:
        """Return the content: `what` happened, what it means, and commands for the holder.

        `more` is added to `what` in the headline, but not in the subject.
        """
        sentences: list[Part] = [Sentence(meaning)] if meaning else []
        typed = [Commands("", tuple(rows))] if self.yours and rows else []
        return Content(
            subject=what,
            headline=f"{self.user}, {what}{more}."
            if self.yours
            else f"{capitalised(what, self.user)}{more}.",
            parts=(*sentences, *typed, Table("The reservation:", (), tuple(self._facts())), STATUS),
            mood=mood,
        )

    def _facts(self) -> list[Row]:
        held, pid = self.held, f"run (PID {self.held.pid})" if self.held.pid else "run"
        told: list[tuple[str, str | None]] = [
            ("GPUs", listed(held.was or held.gpus)),
            ("Kind", pid if self.is_run else printable(self.held.kind)),
            ("Since", moment(held.started)),
            ("Queued", held.queued and moment(held.queued)),
            ("Idle since", held.idle and moment(held.idle)),
            ("Expires", held.expires and moment(held.expires)),
            ("Note", held.note and printable(held.note, 200)),
            ("Label", held.label and printable(held.label)),
            ("Id", printable(held.id)),
        ]
        return [(name, value) for name, value in told if value]


def describe_reservation(notice: Notice, held: Reservation) -> Content:
    """Return the content of granted, expiring, idle, released, unreserved and timeout notices."""
    return _KINDS[notice.kind](Case(notice, held))


def _granted(case: Case) -> Content:
    owner = "yours" if case.yours else f"{case.user}'s"
    what = f"{case.gpus} {'are' if case.many else 'is'} {owner} now: the wait is over"
    back = ("To release GPUs that you do not need", f"canhazgpu release --gpu-ids {case.ids}")
    if case.is_run:
        meaning = f"{'Your' if case.yours else 'The'} command starts now. Its GPUs are released when it ends."
        return case.content(what, meaning, [], mood="good")
    use = f"export CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES={case.ids}"
    if any(vendor_of(uuid) == AMD for uuid in case.held.uuids or ()) or any(map(is_instance, case.held.gpus)):
        use = f'code=$(canhazgpu env {case.ids}) && eval "$code"'
    until = case.notice.deadline or case.held.expires
    meaning = f"Reserved until {moment(until)}." if until else ""
    shell = (f"To use {'them' if case.many else 'it'} in a shell", use)
    return case.content(what, meaning, [shell, _extend(case), back], mood="good")


def _expiring(case: Case) -> Content:
    when = case.notice.deadline or case.held.expires
    left = length(case.notice.created, when)
    what = (
        f"{case.whose} reservation of {case.gpus} expires {f'in {left}, ' if left else ''}at {moment(when)}"
    )
    them = "them" if case.many else "it"
    meaning = f"Processes that are still running on {them} will then count as use without a reservation."
    back = ("To release GPUs that you do not need", f"canhazgpu release --gpu-ids {case.ids}")
    return case.content(what, meaning, [_extend(case), back])


def _extend(case: Case) -> Row:
    return ("For more time", f"canhazgpu extend --gpu-ids {case.ids} --duration {FOR}")


def _idle(case: Case) -> Content:
    who = "you have" if case.yours else f"{case.user} has"
    them, are = ("them", "they are") if case.many else ("it", "it is")
    reserved = f"you have reserved {them}" if case.yours else f"{are} reserved"
    lasted = length(case.held.idle, case.notice.created)
    what = f"{who} not used {case.gpus}{f' for {lasted}' if lasted else ''}"
    more = f", since {moment(case.held.idle)}, although {reserved}"
    purpose = (
        "To release them but keep the run going" if case.is_run else "To release GPUs that you do not need"
    )
    rows = [(purpose, f"canhazgpu release --gpu-ids {case.ids}")]
    if case.held.kind in ENDS_JOB and case.held.label:
        job = printable(case.held.label.removeprefix("job "))
        rows = [("To end the job", f"{ENDS_JOB[case.held.kind]} {job}")]
    if case.held.kind == KUBERNETES and case.held.label:
        namespace, _, pod = printable(case.held.label.removeprefix("pod ")).partition("/")
        rows = [("To end the pod", f"kubectl delete pod --namespace {namespace} {pod}")]
    if case.held.pid:
        rows.insert(0, ("To end the run", f"kill {case.held.pid}"))
    when = case.notice.deadline or case.held.deadline
    meaning = "Others may be waiting for GPUs."
    if when:
        meaning = f"The reservation will be released at {moment(when)} unless its GPUs are used before then."
    return case.content(what, meaning, rows, more=more)


def _released(case: Case) -> Content:
    what = f"{case.whose} reservation of {case.gpus} {_how(case)}"
    them = "them" if case.many else "it"
    meaning = f"Processes that are still running on {them} now count as use without a reservation."
    if case.held.reason == "vanished":
        meaning = "GPU numbers may have changed: check `canhazgpu status` before you use one."
        if _is_gone(case):
            meaning = "The MIG instances of the GPU have changed: `canhazgpu status` shows them."
    if case.held.kept:
        are = "are" if len(without_parts(case.held.kept)) > 1 else "is"
        meaning += f" {gpus(case.held.kept)} {are} still reserved."
    rows = [("To reserve again", case.reserve(these=case.held.reason == "lost"))]
    if _is_gone(case):
        rows = [("To see the instances that there are", "canhazgpu status --long")]
    if case.held.pid:
        rows.append(("To stop the run", f"kill {case.held.pid}"))
    return case.content(what, meaning, rows, mood="bad")


def _is_gone(case: Case) -> bool:
    """Return whether MIG instances were removed from their GPU."""
    return case.held.reason == "vanished" and all(map(is_instance, case.held.gpus))


def _how(case: Case) -> str:
    by = printable(case.held.by) if case.held.by else "an administrator"
    reason = case.held.reason
    if reason == "idle":
        return f"was released: it had been idle since {moment(case.held.idle)}"
    if reason == "no_show":
        return f"was released: it was booked, and has not been used since {moment(case.held.idle)}"
    if reason == "unmanaged":
        return f"was released by {by}, who has taken {'them' if case.many else 'it'} out of allocation"
    if _is_gone(case):
        return f"was released: {'they no longer exist' if case.many else 'it no longer exists'}"
    plain = {
        "vanished": f"was released: the driver no longer finds {'them' if case.many else 'it'}",
        "lost": "was lost",
        "expired": "has expired",
        "exited": "has ended with its process",
        "undelivered": "was released: the client disconnected before it got the answer",
    }
    return plain.get(reason or "", f"was released by {by}")


def _unreserved(case: Case) -> Content:
    are = "are" if case.many else "is"
    what = f"{case.whose} run continues, but {case.gpus} {are} no longer reserved for it"
    meaning = f"Processes on {'them' if case.many else 'it'} now count as use without a reservation."
    rows = [(f"To reserve {'them' if case.many else 'it'} again", case.reserve(these=True))]
    if case.held.pid:
        rows.append(("To stop the run", f"kill {case.held.pid}"))
    return case.content(what, meaning, rows, mood="bad")


def _timeout(case: Case) -> Content:
    what = f"{case.whose} run on {case.gpus} has reached its timeout and is being interrupted"
    meaning = "Processes that do not exit within the grace period are killed."
    more = f"canhazgpu run {as_many(case.held.gpus)} --timeout 8h -- COMMAND"
    return case.content(what, meaning, [("For more time in the next run", more)])


_KINDS: dict[str, Callable[[Case], Content]] = {
    "granted": _granted,
    "expiring": _expiring,
    "idle": _idle,
    "released": _released,
    "unreserved": _unreserved,
    "timeout": _timeout,
}
