"""Decides who can open which device file: pure functions of the journal and the last scan."""

from collections.abc import Iterable, Mapping

from canhazgpu.events.gpu import GpuUsage
from canhazgpu.events.spelling.gpu_numbers import card_of, is_instance
from canhazgpu.service.storage.journal import State

OK = "ok"


def minors_of(seen: Iterable[GpuUsage], known: Mapping[str, int]) -> dict[str, int]:
    """Return the N of /dev/nvidiaN by UUID. A GPU that the last scan did not find keeps its number.

    MIG instances have the file of their GPU. Two GPUs never have the same number: the one that was read
    without an error has it.
    """
    cards = [one for one in seen if not is_instance(one.index)]
    now = {one.uuid: one.minor for one in sorted(cards, key=_reliability) if one.minor is not None}
    owner = {minor: uuid for uuid, minor in {**known, **now}.items()}
    owner |= {minor: uuid for uuid, minor in now.items()}
    return {uuid: minor for minor, uuid in owner.items()}


def openings(state: State, minors: Mapping[str, int]) -> dict[int, frozenset[int]]:
    """Return the uids that can open /dev/nvidiaN, by N, for every managed GPU whose N is known.

    A program that uses a MIG instance opens the file of its GPU: whoever holds an instance can open it. After
    `sudo`, a reservation is root's, and its holder is the user who logged in.
    """
    found: dict[int, set[int]] = {
        minors[card.uuid]: set()
        for card in state.cards.values()
        if card.uuid in minors and not card.unmanaged
    }
    for record in state.records.values():
        for index in record.gpus:
            whole = card_of(index)
            card = state.cards.get(str(index if whole is None else whole))
            holders = found.get(minors.get(card.uuid, -1)) if card else None
            if holders is not None:
                holders |= {uid for uid in (record.uid, record.login_uid) if uid is not None}
    return {minor: frozenset(uids) for minor, uids in found.items()}


def _reliability(usage: GpuUsage) -> bool:
    return usage.state == OK
