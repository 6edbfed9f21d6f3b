"""The NVML provider. A helper process reads the GPUs with a deadline; a hanging helper is replaced."""

import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import anyio
import msgspec

from canhazgpu.events.gpu import NVIDIA, GpuReading, ProcessReading, Vendor
from canhazgpu.service.providers import nvml_errors
from canhazgpu.service.providers.mig.readings import Divided, listed
from canhazgpu.service.providers.nvml_process import Card, Ended, Helper
from canhazgpu.service.providers.nvml_reinit import DEVICES, FIRST, LAST, Reinitializer, View, view_of
from canhazgpu.service.providers.provider import DEADLINE, ProviderError, Starting, no_answer

HOST_PID_NAMESPACE = "pid:[4026531836]"
PROC = "/proc"
EXIT_TIME = 2.0  # Seconds for killed helpers to exit; one that hangs in the kernel does not.
MOST_STUCK = 2  # Helpers that hang in the kernel and cannot be killed; with so many, no more are started.
PATIENCE = 10.0  # Seconds without progress after which a starting helper counts as hanging.
PARTIAL = ProviderError(
    "partial view: this service runs in a PID namespace of its own, where the driver hides other processes",
    "run it on the host, or its container with --pid=host",
)
CRASHES = "the driver's library crashes when it reads this GPU"
HANGS = f"the driver does not answer for this GPU within {DEADLINE:g} s"


class NvmlProvider:
    """Gets one reading per scan from a helper, leaving out cards at which the helper crashes or hangs.

    Only helpers that cannot be killed remain, at most MOST_STUCK.
    """

    name = "nvml"
    _vendor: Vendor = NVIDIA
    _errors: Any = nvml_errors

    def __init__(
        self,
        namespace: Path = Path("/proc/self/ns/pid"),
        *,
        patience: float = PATIENCE,
        devices: Path = DEVICES,
    ) -> None:
        """Store the parameters; the helper is started at the first scan."""
        self._namespace = namespace
        self._patience = patience
        self._helper: Helper | None = None
        self._stuck: list[Helper] = []
        self._shut: dict[Card, str] = {}  # Cards that are left out, and why.
        self._seen: set[str] = set()
        self._unseen: set[tuple[str, int]] = set()  # Processes not in /proc, by card, at the last scan,
        self._unseen_before: set[tuple[str, int]] = set()  # and at the one before.
        self._rows: list[dict[str, Any]] = []  # What the last scan read,
        self._idle: dict[int, list[GpuReading]] = {}  # and of these rows those without a process, by index.
        self._listed: frozenset[str] = frozenset()  # The UUIDs of the last scan.
        self._divided = Divided(self._errors, self._present)
        self._pause = FIRST
        self._renewal = Reinitializer(self._start, self._end, max(patience, DEADLINE), devices)

    async def read(self) -> tuple[GpuReading, ...]:
        """Return all GPUs. Raises ProviderError."""
        if self._is_partial:
            raise PARTIAL
        rows = await self._collect()
        self._renew()
        self._unseen_before, self._unseen = self._unseen, set()
        if rows is not self._rows:
            self._rows, self._idle = rows, {}
            self._listed = frozenset(row.get("uuid", "") for row in rows)
        return tuple(one for row in rows for one in self._idle.get(row["index"]) or self._with_instances(row))

    @cached_property
    def _is_partial(self) -> bool:
        """Whether this process is in another PID namespace than the host's; it remains in its own."""
        return str(self._namespace.readlink()) != HOST_PID_NAMESPACE

    async def aclose(self) -> None:
        """Kill the helpers, and wait only as long as healthy ones need to exit."""
        self._renewal.close()
        self._drop()
        with anyio.move_on_after(EXIT_TIME):
            while not all(one.has_exited() for one in self._stuck):  # noqa: ASYNC110 - two seconds, once
                await anyio.sleep(0.01)

    async def _collect(self) -> list[dict[str, Any]]:
        with anyio.move_on_after(DEADLINE):
            while True:
                helper = self._helper = self._helper or self._replaced()
                try:
                    if helper.asked:  # At a scan before: too old to be this one's answer.
                        await helper.answer()
                    helper.ask(self._shut)
                    answer = await helper.answer()
                except (Ended, OSError):
                    self._without(helper)
                except ValueError as error:
                    self._drop()
                    raise ProviderError(
                        "the answer about the GPUs cannot be read", self._errors.REMEDY
                    ) from error
                else:
                    self._check(helper, answer)
                    return helper.rows
        return self._late()

    def _replaced(self) -> Helper:
        try:
            return self._start()
        except OSError as error:
            raise ProviderError(f"no process can be started: {error}", self._errors.REMEDY) from error

    def _start(self) -> Helper:
        self._stuck = [one for one in self._stuck if not one.has_exited()]
        if len(self._stuck) >= MOST_STUCK:
            raise no_answer(self._errors.HANGING)
        return self._new_helper()

    def _new_helper(self) -> Helper:
        return Helper()

    def _end(self, helper: Helper) -> None:
        helper.kill()
        self._stuck.append(helper)

    def _drop(self) -> None:
        helper, self._helper = self._helper, None
        if helper:
            self._end(helper)

    def _without(self, helper: Helper) -> None:
        """Continue after a helper has exited, without the card at which its library crashed."""
        at = helper.at if helper.has_crashed else None
        answered = helper.answered
        self._drop()
        if at is not None:
            self._shut[at] = CRASHES
        elif not answered:
            raise ProviderError("the driver's library crashed", self._errors.REMEDY)

    def _late(self) -> list[dict[str, Any]]:
        """Return what was read in time; leave out the hanging card from now on."""
        helper = self._helper
        if helper is None:
            raise no_answer(self._errors.HANGING)
        if helper.answered and helper.asked:
            with suppress(Ended, OSError, ValueError):
                answer = helper.poll()  # This service was late, not the helper.
                if answer is not None:
                    self._check(helper, answer)
                    return helper.rows
        slow = (
            helper.seconds_without_progress < self._patience
            if not helper.answered
            else helper.seconds_since_request < DEADLINE * 0.75
        )
        if slow:
            raise Starting(
                f"no answer from the driver in {DEADLINE:g} s: it is still starting",
                self._errors.STARTING,
            )
        at, cards, (count, rows) = helper.at, helper.cards, helper.unfinished()
        self._drop()
        if at is None:
            raise no_answer(self._errors.HANGING)
        self._shut[at] = HANGS
        read = {row["index"] for row in rows}
        for index in set(range(count)) - read:
            if index not in cards:
                raise no_answer(self._errors.HANGING)
            uuid, name = cards[index]
            trouble = (
                {"skipped": True} if at in (uuid, index) else {"unbelievable": "not read: another GPU hangs"}
            )
            rows.append({"index": index, "uuid": uuid, "name": name, **trouble})
        return sorted(rows, key=lambda row: int(row["index"]))

    def _check(self, helper: Helper, answer: dict[str, Any]) -> None:
        if "import" in answer:
            self._drop()
            raise ProviderError(*self._errors.import_error(answer["import"]))
        if "error" in answer:
            # It retries by itself, but with the library that it has loaded.
            if time.monotonic() - helper.begun > self._pause:
                self._drop()
                self._pause = min(self._pause * 2, LAST)
            name = self._errors.BY_CODE.get(answer["error"], "")
            text = self._errors.sentence(name) if name else str(answer["text"])
            raise ProviderError(text, self._errors.remedy(name))
        self._pause = FIRST

    def _renew(self) -> None:
        """Detect cards that were reset, returned or added."""
        helper = self._helper
        self._stuck = [one for one in self._stuck if not one.has_exited()]
        if helper is None or self._stuck:
            return
        seen = view_of(helper, frozenset(self._shut))
        here = set(seen.cards.values()) - {""}
        gone = self._seen - here
        self._seen |= here
        found = self._renewal.step(View(seen.cards, seen.bad | gone, seen.good))
        if found:
            self._drop()
            self._helper, skipped = found
            self._shut = {card: self._shut.get(card, CRASHES) for card in skipped}

    def _with_instances(self, row: dict[str, Any]) -> list[GpuReading]:
        found = row.get("mig", ())
        made = self._divided.readings(self._reading(row), found, row.get("instance_error"), self._listed)
        is_used = bool(row.get("processes")) or any(one["processes"] for one in found)
        if not is_used and made[0].error is None and made[0].unknown is None:
            self._idle[row["index"]] = made
        return made

    def _reading(self, row: dict[str, Any]) -> GpuReading:
        index = row["index"]
        gpu = {"uuid": f"unknown-{index}", "name": "unknown", **row}
        code = gpu.pop("error", None)
        unbelievable = gpu.pop("unbelievable", None)
        skipped = gpu.pop("skipped", False)
        gpu.pop("instance_error", None)
        if code is None and unbelievable is None and not skipped:
            processes = [msgspec.convert(one, ProcessReading) for one in gpu.pop("processes")]
            mig = listed(gpu.pop("mig"))
            return GpuReading(**gpu, mig=mig, processes=tuple(self._present(gpu["uuid"], processes)))
        shut = self._shut.get(gpu["uuid"], self._shut.get(index)) if skipped else None
        name = self._errors.BY_CODE.get(code or 0, f"error {code}")
        broken = name in self._errors.BROKEN or name in self._errors.HOST
        return GpuReading(
            index=index,
            uuid=gpu["uuid"],
            name=gpu["name"],
            vendor=self._vendor,
            ordinal=gpu.get("ordinal"),
            minor=gpu.get("minor"),
            error=shut or (self._errors.sentence(name) if broken else None),
            unknown=None if broken or shut else unbelievable or self._errors.sentence(name),
            remedy=self._errors.remedy(name),
        )

    def _present(self, uuid: str, processes: list[ProcessReading]) -> Iterator[ProcessReading]:
        """Leave out processes that have just ended, unless they are missing in /proc at two scans.

        A later process in /proc with the same pid is a different one as long as the driver lists the first
        one.
        """
        for process in processes:
            unseen = (uuid, process.pid) in self._unseen_before
            if unseen or not Path(f"{PROC}/{process.pid}").exists():
                self._unseen.add((uuid, process.pid))
            if unseen:
                yield msgspec.structs.replace(process, unseen=True)
            elif (uuid, process.pid) not in self._unseen:
                yield process
