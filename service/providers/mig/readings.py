"""Makes GPUs of MIG instances, from what the helper has read of their card. It calls no driver."""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from canhazgpu.events.gpu import GpuReading, MigReading, ProcessReading
from canhazgpu.events.spelling.gpu_numbers import MOST_CARDS, instance_index

EMPTY = "MIG is on, but there is no MIG instance"
FILL = "create instances with `nvidia-smi mig`, or turn MIG off"  # Options would be escaped in lines.
PLACEHOLDER = "unknown-"  # The beginning of the UUID of a card that does not tell its own.
NOT_LISTED = "the driver does not list it, and does not say that it is gone"
Present = Callable[[str, list[ProcessReading]], Iterator[ProcessReading]]


class Divided:
    """The cards that are divided, and their instances.

    Invariant: an instance is left out of the readings only after the driver has said that it does not exist.
    Until then, it is what its card is: in error, or unknown.
    """

    def __init__(self, errors: Any, present: Present) -> None:
        """Use the names of the driver's `errors`; `present` leaves out processes that have just ended."""
        self._errors, self._present = errors, present
        self._last: dict[str, dict[str, GpuReading]] = {}  # Instances by UUID, by the UUID of their card.
        self._at: dict[int, str] = {}  # The UUIDs of these cards by index.

    def readings(
        self,
        card: GpuReading,
        found: Sequence[Mapping[str, Any]],
        instance_error: Sequence[int] | None,
        listed: Container[str] = (),
    ) -> list[GpuReading]:
        """Return the readings of a card and its instances; `instance_error`: one of them, and its error.

        `listed`: all UUIDs of this scan. A card that does not tell its own is the last one at its index,
        unless that one is listed elsewhere.
        """
        uuid = card.uuid
        if uuid.startswith(PLACEHOLDER) and self._at.get(card.index, uuid) not in listed:
            uuid = self._at.get(card.index, uuid)
        before = self._last.get(uuid, {})
        if not before and not found and not card.divided and instance_error is None:
            return [card]
        now = {one.uuid: one for one in (self._instance(card, facts) for facts in found)}
        if instance_error is not None:
            card = self._with_trouble(card, instance_error)
        elif card.divided and not found:
            card = msgspec.structs.replace(card, unknown=EMPTY, remedy=FILL)
        if card.divided is None:  # Also if the card could not be read at all.
            if before and not (card.error or card.unknown):
                card = msgspec.structs.replace(card, unknown="the driver does not say whether MIG is on")
            now |= {uuid: _as_card(one, card) for uuid, one in before.items() if uuid not in now}
        self._last[uuid], self._at[card.index] = now, uuid
        return [card, *sorted(now.values(), key=lambda one: one.index)]

    def _instance(self, card: GpuReading, facts: Mapping[str, Any]) -> GpuReading:
        code, doubt = facts.get("error"), facts.get("unbelievable")
        name = self._errors.BY_CODE.get(code, f"error {code}") if code is not None else ""
        broken = name in self._errors.BROKEN or name in self._errors.HOST
        text = self._errors.sentence(name) if name else None
        processes = [msgspec.convert(one, ProcessReading) for one in facts["processes"]]
        good = code is None and doubt is None
        return GpuReading(
            index=instance_index(card.index, facts["number"] % MOST_CARDS),
            uuid=facts["uuid"],
            name=facts["name"] or f"{card.name} MIG {facts['profile'] or 'instance'}",
            minor=card.minor,
            memory_total_mb=facts["memory_total_mb"],
            memory_used_mb=facts["memory_used_mb"] if good else None,
            processes=tuple(self._present(facts["uuid"], processes)) if good else (),
            processes_reported=facts["processes_reported"],
            profile=facts["profile"],
            error=text if broken else None,
            unknown=None if broken or good else doubt or text,
            remedy=None if good else self._errors.remedy(name),
        )

    def _with_trouble(self, card: GpuReading, trouble: Sequence[int]) -> GpuReading:
        number, code = trouble
        name = self._errors.BY_CODE.get(code, f"error {code}")
        text = f"its MIG instance {number} cannot be read: {self._errors.sentence(name)}"
        return msgspec.structs.replace(card, unknown=text, remedy=self._errors.remedy(name))


def listed(found: Sequence[Mapping[str, Any]]) -> tuple[MigReading, ...]:
    """Return the instances as a card lists them."""
    return tuple(
        MigReading(**{name: one[name] for name in MigReading.__struct_fields__ if name in one})
        for one in found
    )


def _as_card(instance: GpuReading, card: GpuReading) -> GpuReading:
    """Return an instance that cannot be read because its card cannot, or is not listed without a reason."""
    number = instance.index % MOST_CARDS
    return GpuReading(
        index=instance_index(card.index, number),
        uuid=instance.uuid,
        name=instance.name,
        minor=instance.minor,
        profile=instance.profile,
        error=card.error,
        unknown=None if card.error else card.unknown or NOT_LISTED,
        remedy=card.remedy,
    )
