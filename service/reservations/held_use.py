"""Decides whether a run uses GPUs that its user holds already, and refuses requests that wait for themselves.

A run within another one (or in a shell with the variables of a reservation, or in a scheduler's job) is part
of that reservation, as `srun` within `salloc` is. Which reservation or job it names is only a wish: one of
the caller's own is used, by uid. Root after `sudo` is the user who logged in.
"""

from collections import Counter, deque
from collections.abc import Iterable, Sequence

import msgspec

from canhazgpu.events.linux.processes import Process, parents, start_time_of
from canhazgpu.events.reservations import MANUAL, RUN, SCHEDULERS, Record, job_label
from canhazgpu.events.spelling.gpu_numbers import card_of, spell_gpu
from canhazgpu.service.api.errors import Problem

MOST = 256  # Nested runs that are remembered.
OTHERS = "--new reserves others"


class HeldUse(msgspec.Struct, frozen=True):
    """The reservation that a run becomes a part of, and which of its GPUs it uses."""

    record: Record
    gpus: tuple[int, ...]


class NestedRuns:
    """The GPUs that nested runs were given, so that runs side by side get different ones where they can.

    It is only a preference: it is kept in memory, and a restart of the service forgets it.
    """

    def __init__(self) -> None:
        """Start without any."""
        self._runs: deque[tuple[Process, tuple[int, ...]]] = deque(maxlen=MOST)

    def add(self, process: Process, gpus: tuple[int, ...]) -> None:
        """Remember the GPUs of a run until its process ends."""
        self._runs.append((process, gpus))

    def uses(self) -> Counter[int]:
        """Return how many live nested runs each GPU has."""
        live = [
            (process, gpus) for process, gpus in self._runs if start_time_of(process.pid) == process.start
        ]
        self._runs = deque(live, maxlen=MOST)
        return Counter(gpu for _, gpus in live for gpu in gpus)


def is_own(record: Record, uid: int, login_uid: int | None) -> bool:
    """Return whether a caller holds this reservation. Of two with the uid 0, the logins decide.

    `is_own` in service/lua/callers.lua has the same rule.
    """
    return _person(record.uid, record.login_uid) == _person(uid, login_uid) or record.uid == uid != 0


def _person(uid: int, login_uid: int | None) -> int:
    return uid if login_uid is None else login_uid


def surrounding(own: Iterable[Record], within: str | None, job: str | None) -> str | None:
    """Return the reservation that a caller is part of, from those that its environment names.

    In a job, that is the job's, unless the one `within` began later: a job inherits the variables of the
    shell in which it was submitted.
    """
    own = list(own)
    label = job_label(job) if job else None
    of_job = next((one for one in own if one.kind in SCHEDULERS and one.label == label), None)
    if of_job is None:
        return within
    began_inside = any(one.id == within and one.started_ms >= of_job.started_ms for one in own)
    return within if began_inside else of_job.id


def choose(  # noqa: PLR0913 - each says one thing about the request
    own: Sequence[Record],
    within: str | None,
    uses: Counter[int],
    *,
    count: int | None,
    gpus: tuple[int, ...] | None,
    timeout: bool,
) -> HeldUse | None:
    """Return what a run uses of its user's `own` reservations, or None if it needs a new one.

    `within`: the reservation that its environment names. Raises Problem if it asks for more than that has.
    """
    live = [one for one in own if one.ended_ms is None and one.gpus]
    outer = next((one for one in live if one.id == within), None)
    if outer is None:
        return None if timeout else _manual(live, uses, count or 1, gpus)
    wanted = count or len(outer.gpus)
    if not _fits(outer, wanted, gpus):
        asked = f"GPUs {_numbers(gpus)}" if gpus else f"{wanted} GPUs"
        detail = f"{asked} were requested within reservation {outer.id}, which has {_shown(outer.gpus)}"
        raise Problem(409, "not-within", detail, OTHERS)
    if timeout:
        detail = f"a run within reservation {outer.id} cannot have its own timeout"
        raise Problem(409, "not-within", detail, f"use timeout(1) for the command; {OTHERS}")
    return HeldUse(outer, _of(outer, wanted, gpus, uses))


def _manual(
    live: Sequence[Record], uses: Counter[int], count: int, gpus: tuple[int, ...] | None
) -> HeldUse | None:
    """Return the manual reservation that fits and whose GPUs the fewest nested runs use."""
    fitting = [
        HeldUse(one, _of(one, count, gpus, uses))
        for one in live
        if one.kind == MANUAL and _fits(one, count, gpus)
    ]
    return min(fitting, key=lambda use: sum(uses[gpu] for gpu in use.gpus), default=None)


def _fits(record: Record, count: int, gpus: tuple[int, ...] | None) -> bool:
    return set(gpus) <= set(record.gpus) if gpus else count <= len(record.gpus)


def _of(record: Record, count: int, gpus: tuple[int, ...] | None, uses: Counter[int]) -> tuple[int, ...]:
    if gpus:  # Of GPUs that are divided, a run uses the MIG instances.
        return tuple(gpu for gpu in record.gpus if gpu in gpus or card_of(gpu) in gpus)
    return tuple(sorted(sorted(record.gpus, key=lambda gpu: (uses[gpu], gpu))[:count]))


def _shown(gpus: Sequence[int]) -> str:
    return f"{len(gpus)} GPU(s): {_numbers(gpus)}"


def _numbers(gpus: Sequence[int]) -> str:
    return f"[{', '.join(map(spell_gpu, gpus))}]"


def outer_runs(
    records: Iterable[Record], own: Sequence[Record], within: str | None, pid: int
) -> list[Record]:
    """Return the runs and the job that a process is part of: it must not wait for them, as they end after it.

    Whose runs they are does not matter (`sudo` in a run), but anybody can name a reservation (`within`).
    """
    ancestors = set(parents(pid))
    return [
        one
        for one in records
        if (one.kind == RUN or one.kind in SCHEDULERS)
        and ((one.id == within and one in own) or Process(one.pid or 0, one.start or 0) in ancestors)
    ]


def refuse_waiting_for_itself(
    outer: Sequence[Record], *, need: int, gpus: tuple[int, ...] | None, managed: int, limit: int | None
) -> None:
    """Raise Problem if a request can be served only after the runs that it is part of have ended."""
    held = {gpu for one in outer for gpu in one.gpus}
    cards = {card_of(gpu) for gpu in held}
    most = managed - len(held)
    if limit is not None:
        most = min(most, limit - len(held))
    if held and (need > most or (gpus and not (held | cards).isdisjoint(gpus))):
        what = "job" if any(one.kind in SCHEDULERS for one in outer) else "run"
        detail = f"the request would wait for itself: it is part of a {what} on {_shown(sorted(held))}"
        raise Problem(409, "waits-for-itself", detail, f"at most {max(0, most)} other GPUs can become free")
