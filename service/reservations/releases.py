"""What `release` ends: the order as the script takes it, and what it reports."""

from typing import Any

import msgspec


class ReleaseOrder(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reservations to end: those of `uid`, or on `gpus`, or with `ids`; `all` includes those of runs.

    `person`: the user behind a uid that several share (`Peer.person`). `everybody`: of all users. `admin` can
    end those of others. `by` and `reason` appear in the event.
    """

    uid: int
    by: str
    reason: str
    person: int | None = None
    gpus: tuple[int, ...] | None = None
    uuids: dict[int, str] | None = None
    ids: tuple[str, ...] | None = None
    all: bool = False
    admin: bool = False
    everybody: bool = False


class Released(msgspec.Struct, frozen=True, kw_only=True):
    """One reservation that ended or lost `gpus`; `whole` if it has no GPUs left."""

    id: str
    kind: str
    user: str
    uid: int
    gpus: tuple[int, ...]
    whole: bool
    started_ms: int
    pid: int | None = None
    ended: bool = False  # Its process had already ended.

    def row(self) -> dict[str, Any]:
        """Return it as an API response."""
        shown = {name: getattr(self, name) for name in ("id", "kind", "user", "whole", "ended")}
        return {**shown, "gpus": sorted(self.gpus)}
