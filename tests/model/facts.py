"""What the reference knows of GPUs, reservations and requests."""

import math
from dataclasses import dataclass

from model.promises import NOW


@dataclass
class Gpu:
    """One GPU: the result of the last scan, and its drain."""

    index: int
    state: str = "ok"
    users: frozenset[int] = frozenset()
    released: int = 0
    settled: bool = True  # Scanned since its last release.
    drained: str = ""  # For which reason.
    managed: bool = True
    holder: str | None = None
    vendor: str = "nvidia"
    profile: str | None = None  # Of a MIG instance.
    parts: tuple[int, ...] = ()  # Its MIG instances.
    card: int | None = None  # Of which it is an instance.

    @property
    def whole(self) -> bool:
        """Tell whether it is neither divided nor an instance."""
        return not self.parts and self.card is None


@dataclass
class Held:
    """A live reservation."""

    id: str
    uid: int
    kind: str
    gpus: list[int]
    lasts: int | None = None  # Milliseconds since it began.
    ended: bool = False
    timeout: int | None = None

    @property
    def until(self) -> float:
        """Return when it ends at the latest."""
        return self.timeout or self.lasts or math.inf


@dataclass
class Request:
    """A request for certain GPUs or for a number of GPUs."""

    uid: int
    kind: str
    count: int
    ids: tuple[int, ...] | None = None
    limit: int | None = None
    lasts: int | None = None
    wait: bool = False
    vendor: str | None = None
    profile: str | None = None
    id: str = ""
    attached: bool = True
    timeout: int | None = None
    booking: str = ""

    @property
    def until(self) -> float:
        """Return when it would end at the latest if it was granted now: after now, however short it is."""
        return max(self.timeout or self.lasts or math.inf, NOW + 1)

    @property
    def need(self) -> int:
        """Return the number of GPUs."""
        return len(self.ids) if self.ids else self.count

    def accepts(self, gpu: Gpu) -> bool:
        """Tell whether it is for this GPU, whatever the state of that."""
        if self.profile:
            return gpu.profile == self.profile
        named = gpu.whole if self.ids is None else gpu.index in self.ids
        return named and self.vendor in {None, gpu.vendor}
