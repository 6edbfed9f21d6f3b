"""Copies how many GPUs each user holds, for the limits of the other hosts."""

import time
from collections import Counter
from collections.abc import Iterable

import msgspec
import structlog
from redis.exceptions import NoPermissionError

from canhazgpu.events.redis_client.fleet_copy import HeldGpus, encode_held
from canhazgpu.events.redis_client.store import Store
from canhazgpu.events.spelling.gpu_numbers import without_parts
from canhazgpu.workers.fleet.fleet_redis import NEEDS_RIGHTS, fleet_errors

AGAIN = 60.0  # Seconds until counts that are as before are written again.


class _Holding(msgspec.Struct, frozen=True):
    user: str
    gpus: tuple[int, ...]


class HeldCopy:
    """The counts on the Redis of `fleet`. Raises FleetDown."""

    def __init__(self, fleet: Store) -> None:
        """Write there."""
        self._fleet = fleet
        self._written: tuple[dict[str, int], float] | None = None
        self._refused = False

    def forget(self) -> None:
        """Write everything again: the fleet's Redis may be another one."""
        self._written = None

    async def write(self, reservations: Iterable[bytes], seen_ms: int) -> None:
        """Copy what these reservations hold, if that has changed or was last copied long ago."""
        held, now = _counts(reservations), time.monotonic()
        if self._written and self._written[0] == held and now - self._written[1] < AGAIN:
            return
        value = encode_held(HeldGpus(seen_ms=seen_ms, gpus=held))
        with fleet_errors():
            try:
                await self._fleet.redis.set(self._fleet.keys.fleet_held, value)
                self._refused = False
            except NoPermissionError:  # The host has the rights of an older version.
                if not self._refused:
                    reason = "other hosts cannot count the GPUs that users hold here"
                    structlog.get_logger().warning("limited", reason=reason, remedy=NEEDS_RIGHTS)
                self._refused = True
        self._written = held, now


def _counts(reservations: Iterable[bytes]) -> dict[str, int]:
    held = Counter[str]()
    for text in reservations:
        try:
            one = msgspec.json.decode(text, type=_Holding)
        except msgspec.DecodeError:
            continue
        held[one.user] += len(without_parts(one.gpus))
    return dict(+held)
