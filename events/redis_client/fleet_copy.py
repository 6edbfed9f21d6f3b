"""What the copy of a host on the fleet's Redis says of itself."""

import msgspec

STATE = "state"  # Fields of the hash.
PROBE = "probe"
MISSING = "missing:"  # Before the name of a stream.
RESTARTED = "restarted:"
GRACE = 3  # A host that has not copied its state for so many intervals counts as away.


class CopyState(msgspec.Struct, frozen=True, kw_only=True):
    """When the state was copied: `seen_ms` on the clock of the fleet's Redis, `at_ms` on the host's.

    `interval_ms` is the longest time until the next copy, and `scan_interval_ms` that between two scans.
    `machine` tells two hosts with the same name apart; `presume_holder` is the host's setting.
    """

    seen_ms: int
    at_ms: int
    interval_ms: int
    scan_interval_ms: int
    presume_holder: bool = True
    machine: str = ""

    @property
    def patience_ms(self) -> int:
        """The age of the copy from which on the host counts as away."""
        return GRACE * self.interval_ms
