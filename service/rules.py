"""By which rules GPUs are handed out, and the keys every script needs that hands them out."""

from functools import cached_property

import msgspec

from canhazgpu.config.settings import Settings
from canhazgpu.events.keys import Keys
from canhazgpu.events.promise import Promise, Promised

OLDEST = 15.0  # Seconds; an older scan says nothing about now (or three intervals, where that is more).
# A driver that hangs is told at once by itself: this is for a service that is starved or gone.


class Rules(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """What a script is told: the order in which GPUs are handed out, and how old a scan may be, in ms.

    `warning_ms`: so long before its end a manual reservation is announced to expire; after `idle_after_ms`
    without use it is told to be idle, and `idle_release_ms` after that it is released. 0: never.
    `presume_holder`: use whose user cannot be proven is taken for the holder's on a GPU that is reserved.
    """

    policy: str = "lru"
    stale_ms: int = round(OLDEST * 1000)
    warning_ms: int = 0
    idle_after_ms: int = 0
    idle_release_ms: int = 0
    presume_holder: bool = True

    @classmethod
    def of(cls, settings: Settings) -> "Rules":
        """Return the rules of these settings."""
        oldest, notices = max(OLDEST, 3 * settings.gpus.scan_interval), settings.notices
        return cls(
            policy=settings.allocation.policy,
            stale_ms=round(oldest * 1000),
            warning_ms=round(notices.expiry_warning * 1000),
            idle_after_ms=round(notices.idle_after * 1000),
            idle_release_ms=round(notices.idle_release * 1000),
            presume_holder=settings.violations.presume_holder,
        )

    def text_for(self, promise: Promise | None) -> bytes:
        """Return the rules as scripts take them that work only on data that keeps the promise."""
        asked = msgspec.json.encode(promise) if promise else b"{}"
        text = Promised(self.text if asked == b"{}" else self.text[:-1] + b"," + asked[1:])
        text.anew = self.text_for
        return text

    @cached_property
    def text(self) -> bytes:
        """The rules as scripts take them."""
        return msgspec.json.encode(self)


def host_keys(keys: Keys) -> list[str]:
    """Return the keys 1 to 8 of a script that opens a host (see service/lua/prelude.lua)."""
    return [
        keys.sequence,
        keys.events,
        keys.scan,
        keys.gpus,
        keys.reservations,
        keys.queue,
        keys.affinity,
        keys.ledger,
    ]
