"""A host in Redis whose cards are divided into MIG instances; tests name GPUs as people do: `0`, `0:1`."""

from collections.abc import Mapping

import msgspec
from support.cards import CardHost

from canhazgpu.events.gpu import GpuReading
from canhazgpu.events.spelling.gpu_numbers import instance_index, read_instance, spell_gpu
from canhazgpu.service.gpus.observation import observe

Division = Mapping[int, Mapping[int, str]]  # The profiles of the instances by number, by card.


def at(name: str) -> int:
    """Return the index of a GPU."""
    instance = read_instance(name)
    return int(name) if instance is None else instance


class MigHost(CardHost):
    """Scans and reservations on real Redis data; the UUID of an instance is its card, number and profile."""

    async def look(self, division: Division, *, broken: int = -1, cards: int = 2) -> None:
        """Scan cards that are divided like this; `broken` is one that cannot be read, with its instances."""
        readings = [reading for card in range(cards) for reading in _card(card, division, broken)]
        settled = await self.cards.settle(readings, self.now_ms)
        failing = [one.uuid for one in readings if one.error]
        usages = [
            msgspec.structs.replace(self._usage(one, failing), profile=one.profile) for one in settled
        ] + self.cards.missing()
        former = self.cards.former
        self.now_ms = (await observe(self.store, usages, 0.0, 60.0, rules=self.rules, former=former)).now_ms

    async def take(self, uid: int, *names: str) -> str:
        """Reserve the GPUs with these names; return the code of the answer."""
        return (await self.reserve(uid, *map(at, names))).code

    async def held(self) -> dict[str, int]:
        """Return the uids of the holders by the names of the GPUs."""
        await self.holders()  # It checks that both sides agree.
        records = (await self.records()).values()
        return {spell_gpu(index): record.uid for record in records for index in record.gpus}


def _card(card: int, division: Division, broken: int) -> list[GpuReading]:
    error = "GPU is lost" if card == broken else None
    divided = None if error else bool(division.get(card))
    whole = GpuReading(index=card, uuid=f"GPU-{card}", name="A100", divided=divided, error=error)
    return [
        whole,
        *(
            GpuReading(
                index=instance_index(card, number),
                uuid=f"MIG-{card}-{number}-{profile}",
                name=f"A100 MIG {profile}",
                profile=profile,
                error=error,
            )
            for number, profile in division.get(card, {}).items()
        ),
    ]


def instance(number: int, profile: str, uuid: str, *processes: str) -> str:
    """Return a MIG instance of the GPU before it, as a part of a scenario."""
    lines = ["[[gpus.mig]]", f"number = {number}", f'profile = "{profile}"', f'uuid = "{uuid}"']
    for process in processes:
        lines += ["[[gpus.mig.processes]]", *process.split(";")]
    return "\n".join(lines) + "\n"
