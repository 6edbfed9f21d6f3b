"""The last half hour of each GPU, in memory: a reading every 30 s, the mean of those seen in between."""

from collections import deque
from typing import Any

from msgspec import Struct

SAMPLES = 60
PERIOD = 30.0  # Seconds of one sample.
MOST_GPUS = 1024


class Sample(Struct, frozen=True):
    """Shares of a GPU from 0 to 1; None if the card does not report it."""

    utilization: float | None
    memory: float | None


class History:
    """Samples by UUID. A GPU that is gone is forgotten."""

    def __init__(self) -> None:
        """Begin without a past."""
        self._samples: dict[str, deque[Sample]] = {}
        self._readings: dict[str, list[Sample]] = {}
        self._began: float | None = None

    def add(self, gpus: list[dict[str, Any]], now: float) -> None:
        """Take a reading of all GPUs at a monotonic time."""
        for gpu in gpus[:MOST_GPUS]:
            self._readings.setdefault(gpu["uuid"], []).append(_reading(gpu))
        if self._began is not None and now - self._began < PERIOD:
            return
        self._began = now
        self._samples = {
            uuid: self._with_mean(uuid, readings)
            for uuid, readings in self._readings.items()
            if any(gpu["uuid"] == uuid for gpu in gpus)
        }
        self._readings.clear()

    def of(self, uuid: str) -> tuple[Sample, ...]:
        """Return the samples of a GPU, oldest first."""
        return tuple(self._samples.get(uuid, ()))

    def _with_mean(self, uuid: str, readings: list[Sample]) -> deque[Sample]:
        kept = self._samples.get(uuid) or deque(maxlen=SAMPLES)
        kept.append(
            Sample(_mean([one.utilization for one in readings]), _mean([one.memory for one in readings]))
        )
        return kept


def _reading(gpu: dict[str, Any]) -> Sample:
    total, used = gpu["memory_total_mb"], gpu["memory_used_mb"]
    utilization = gpu["utilization_percent"]
    return Sample(
        None if utilization is None else utilization / 100,
        None if not total or used is None else used / total,
    )


def _mean(shares: list[float | None]) -> float | None:
    known = [share for share in shares if share is not None]
    return round(sum(known) / len(known), 3) if known else None
