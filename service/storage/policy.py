"""The allocation rules as passed to scripts, and the keys of all scripts that allocate GPUs."""

import os
import time
from functools import cache, cached_property

import msgspec

from canhazgpu.config.settings import Settings
from canhazgpu.events.redis_client.fencing import FencedArgument, FencingToken
from canhazgpu.events.redis_client.keys import Keys
from canhazgpu.service.storage.machine_id import boot_id

OLDEST = 15.0  # Seconds; older scans are not used for allocation (or three intervals, if that is longer).
# A hanging driver is reported separately; this is for a service that is starved or gone.
TICKS = os.sysconf("SC_CLK_TCK")


class AllocationPolicy(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """The parameters of scripts: the allocation policy, and the maximum age of a scan in ms.

    `warning_ms`: how long before the end the expiry of a manual reservation is announced. `idle_after_ms`:
    after how long without use a reservation is reported as idle; `idle_release_ms`: after how much longer it
    is released. `no_show_ms`: after how long a reservation that was booked is released if it was never used.
    0 means never. `presume_holder`: on a reserved GPU, use without a proven user is assumed to
    be the holder's. `low_percent`, `low_ms`: in the log of use, a GPU in use counts as held idle once its
    utilisation has been below that for so long.
    """

    policy: str = "lru"
    stale_ms: int = round(OLDEST * 1000)
    warning_ms: int = 0
    idle_after_ms: int = 0
    idle_release_ms: int = 0
    no_show_ms: int = 0
    presume_holder: bool = True
    low_percent: int = 5
    low_ms: int = 300_000

    @classmethod
    def of(cls, settings: Settings) -> "AllocationPolicy":
        """Return the rules of these settings."""
        oldest, notices = max(OLDEST, 3 * settings.gpus.scan_interval), settings.notices
        return cls(
            policy=settings.allocation.policy,
            stale_ms=round(oldest * 1000),
            warning_ms=round(notices.expiry_warning * 1000),
            idle_after_ms=round(notices.idle_after * 1000),
            idle_release_ms=round(notices.idle_release * 1000),
            no_show_ms=round(settings.bookings.no_show * 1000),
            presume_holder=settings.violations.presume_holder,
            low_percent=settings.report.idle_utilization,
            low_ms=round(settings.report.idle_after * 1000),
        )

    def text_for(self, token: FencingToken | None) -> bytes:
        """Return the script argument for scripts that require the conditions of the token.

        It also has the time since boot in clock ticks, which cannot be derived from `started_ms`.
        """
        conditions = msgspec.json.encode(token) if token else b"{}"
        fenced = b"" if conditions == b"{}" else b"," + conditions[1:-1]
        now = b',"boot":"%b","up":%d}' % (
            this_boot().encode(),
            time.clock_gettime(time.CLOCK_BOOTTIME) * TICKS,
        )
        text = FencedArgument(self.text[:-1] + fenced + now)
        text.rebuild = self.text_for
        return text

    @cached_property
    def text(self) -> bytes:
        """The rules as a script argument."""
        return msgspec.json.encode(self)


@cache
def this_boot() -> str:
    """Return the boot to which `boot` of a reservation is compared."""
    return boot_id()


def host_keys(keys: Keys) -> list[str]:
    """Return keys 1 to 8 of all scripts that open a host (see service/lua/allocation.lua)."""
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
