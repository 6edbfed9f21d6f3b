"""The last known state of the host: read from Redis, or assembled from memory while Redis is down.

State from memory is only displayed, with its age and the reason; no decisions are based on it.
"""

import contextlib
import time
from typing import Any

import anyio
import msgspec
from anyio.abc import TaskStatus
from starlette.responses import Response

from canhazgpu.events.durations import spell_length
from canhazgpu.events.gpu import GpuUsage
from canhazgpu.events.redis_client.store import Store, StoreDown
from canhazgpu.events.reservations import Booked, Record
from canhazgpu.events.sanitize import printable
from canhazgpu.events.spelling.gpu_numbers import place_of
from canhazgpu.events.timestamps import local_time, ms_of
from canhazgpu.service.api.context import respond
from canhazgpu.service.api.errors import Problem
from canhazgpu.service.gpus.scanner import Scanner
from canhazgpu.service.recovery.reconciliation import Reconciler
from canhazgpu.service.storage.journal import State
from canhazgpu.service.storage.snapshot import GpuState, Snapshot, snapshot

LOOK = 60.0  # Seconds between two reads of data that only Redis has: violations, silences, release times.
QUIET = 0.7  # Seconds without any reply until a Redis that has answered recently is asked once more.
PATIENCE = 4.0  # Seconds for a Redis that is slow, but answers others,
SHORT_PATIENCE = 0.3  # and for one that did not answer.
LONGEST_WARNING = 500
LATELY = 3600.0  # Seconds for which it is said that Redis had lost its state.


class LastKnown:
    """Provides the state of the host to readers, and says whether changes are possible."""

    def __init__(self, store: Store, scanner: Scanner, reconciler: Reconciler) -> None:
        """Start without a state."""
        self._store, self._scanner, self._reconciler = store, scanner, reconciler
        self._last: Snapshot | None = None
        self._late = False  # Whether Redis did not answer the last reader in time.
        self._ahead_ms = 0  # Redis' clock before ours.

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Read the state regularly until cancelled."""
        task_status.started()
        while True:
            await self.read_state()
            await anyio.sleep(LOOK)

    async def read_state(self) -> Snapshot:
        """Return the current state of the host, or the last known one."""
        try:
            self._last = await self._read()
        except StoreDown as down:
            return self._from_memory(self._store.explain(down)[0])
        self._ahead_ms = self._last.now_ms - round(time.time() * 1000)
        if self._store.down and self._store.trouble:  # It reads, and does not write.
            return self._from_memory(self._store.explain(self._store.trouble)[0])
        return self._last

    async def managed(self) -> list[int]:
        """Return the indices of the GPUs that users can reserve."""
        return [gpu.usage.index for gpu in (await self.read_state()).gpus if not gpu.unmanaged]

    def bookings(self) -> list[Booked]:
        """Return the bookings that the journal has."""
        state = self._reconciler.journal_state
        return sorted(state.bookings.values(), key=lambda one: (one.begin_ms, one.id)) if state else []

    async def _read(self) -> Snapshot:
        """Read the state; give up soon if Redis is silent. Raises StoreDown."""
        began = time.monotonic()
        limits = [(SHORT_PATIENCE, SHORT_PATIENCE)]
        if not (self._store.down or self._late):
            limits.insert(0, (QUIET, PATIENCE))
        for quiet, longest in limits:  # Twice: this process may have had no processor when the reply came.
            with contextlib.suppress(TimeoutError), self._store.reply_timer.limit(quiet, longest):
                seen = await snapshot(self._store)
                self._late = False
                return seen
        self._late = True
        waited = round(time.monotonic() - began, 1)
        raise StoreDown(f"Redis does not answer: nothing came from it in {waited:g} s")

    async def refusal(self) -> Problem | None:
        """Return why no changes are possible now, or None."""
        if not (self._store.down or self._late):
            return None
        try:
            await self._store.ready(SHORT_PATIENCE)
        except StoreDown as down:
            return self.problem(down)
        self._late = False
        return None

    def problem(self, down: StoreDown) -> Problem:
        """Return the problem for a request that Redis did not answer."""
        return Problem(503, "store-unavailable", *self._store.explain(down))

    def respond(self, value: Any, known_state: Snapshot) -> Response:
        """Return a response; headers say if it is not current."""
        reply = respond(value)
        reason = known_state.stale_reason
        age = known_state.stale_s
        if not reason and known_state.stalled_ms is not None:
            trouble = self._scanner.trouble
            remedy = f": {trouble.remedy}" if trouble and trouble.remedy else ""
            reason = (known_state.stalled_reason or "scans fail") + remedy
            age = (
                None
                if known_state.scanned_ms is None
                else max(0, (known_state.now_ms - known_state.scanned_ms) // 1000)
            )
        if reason:
            when = "" if age is None else f"last known {spell_length(age)} ago: "
            text = printable(when + reason, LONGEST_WARNING)
            reply.headers["Canhazgpu-Degraded"] = text.encode("ascii", "backslashreplace").decode()
            if age is not None:
                reply.headers["Age"] = str(age)
        told = self._recent_recovery(known_state.now_ms)
        if told:
            reply.headers["Canhazgpu-Restored"] = told
        return reply

    def _recent_recovery(self, now_ms: int) -> str:
        """Return the recent repair of lost state as a header value, or an empty string."""
        done = self._reconciler.last
        age = (now_ms - ms_of(done.at)) / 1000 if done else LATELY
        if done is None or age >= LATELY:
            return ""
        count = len(done.restored)
        restored = "1 reservation was restored" if count == 1 else f"{count} reservations were restored"
        over = f", {len(done.dropped)} had ended" if done.dropped else ""
        claims = f"; promised twice: {len(done.conflicts)} GPUs" if done.conflicts else ""
        return (
            f"Redis had lost its state at {local_time(done.at)}: {restored}{over}{claims} (canhazgpu doctor)"
        )

    def _from_memory(self, reason: str) -> Snapshot:
        heard, now = self._scanner.stored, time.monotonic()
        state, last, known_state = self._reconciler.journal_state, self._last, self._scanner.seen
        before = {gpu.usage.index: gpu for gpu in last.gpus} if last else {}
        indices = sorted({*before, *known_state, *(map(int, state.cards) if state else ())}, key=place_of)
        now_ms = round(time.time() * 1000) + self._ahead_ms
        scanned_ms = last.scanned_ms if last else None
        if self._scanner.seen_at is not None:
            scanned_ms = now_ms - round((now - self._scanner.seen_at) * 1000)
        trouble = self._scanner.trouble
        return Snapshot(
            now_ms=now_ms,
            scanned_ms=scanned_ms,
            stalled_ms=scanned_ms if trouble else None,
            stalled_reason=trouble.reason if trouble else "",
            gpus=tuple(_gpu(index, before.get(index), known_state.get(index), state) for index in indices),
            reservations=_oldest_first(state) if state else last.reservations if last else (),
            waiting=tuple(sorted(state.requests.values(), key=lambda one: one.place))
            if state
            else last.waiting
            if last
            else (),
            silences=last.silences if last else (),
            stale_s=None if heard is None else round(now - heard),
            stale_reason=reason,
        )


def _gpu(index: int, before: GpuState | None, usage: GpuUsage | None, state: State | None) -> GpuState:
    gpu = before or GpuState(
        usage=GpuUsage(index=index, uuid="", name="", state="unknown", reason="not read yet")
    )
    card = state.cards.get(str(index)) if state else None
    uuid = gpu.usage.uuid or (card.uuid if card else "")
    if usage and uuid in ("", usage.uuid):  # Otherwise the driver has renumbered its cards.
        gpu = msgspec.structs.replace(gpu, usage=usage)
    if state is None:
        if before:
            return gpu
        unknown = msgspec.structs.replace(gpu.usage, state="unknown", reason="its reservation is not known")
        return msgspec.structs.replace(gpu, usage=unknown)
    return msgspec.structs.replace(
        gpu,
        reservation=next((one for one in state.records.values() if index in one.gpus), None),
        drained=card.drained if card else gpu.drained,
        unmanaged=card.unmanaged if card else gpu.unmanaged,
    )


def _oldest_first(state: State) -> tuple[Record, ...]:
    return tuple(sorted(state.records.values(), key=lambda one: (one.started_ms, one.id)))
