"""Limits how often each user can change something, because every change is stored in events and logs."""

import time
from collections.abc import Callable
from typing import Any

import msgspec

from canhazgpu.service.api.errors import Problem
from canhazgpu.service.identity.peer import Peer

HOUR = 3600.0
# What only ends something is as rare as what began it, and is never refused.
ENDS = "/v1/reservations/release"
ASKS = "/v1/containers/check"  # It changes nothing.
FREE = ("GET", "HEAD", "DELETE")
REFUSED = 400  # From this status on nothing was changed.
MOST = 4096  # Users that are remembered before those with nothing to remember are forgotten.


class _Bucket(msgspec.Struct):
    left: float
    at: float


class RateLimit:
    """A burst of changes, and the same number again per hour, evenly. Root is not limited."""

    def __init__(self, per_hour: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`per_hour`: 0 means no limit."""
        self._most, self._clock = per_hour, clock
        self._buckets: dict[int, _Bucket] = {}

    def limit_changes(self, application: Any) -> Any:
        """Return an application that refuses changes beyond the limit; refused requests do not count."""

        async def paced(scope: Any, receive: Any, send: Any) -> None:
            peer: Peer = scope["canhazgpu.peer"]
            if not self._most or peer.uid == 0 or scope["method"] in FREE or scope["path"] in {ENDS, ASKS}:
                await application(scope, receive, send)
                return
            try:
                self.take(peer.uid)
            except Problem as problem:
                await problem.response()(scope, receive, send)
                return

            async def counted(message: Any) -> None:
                if message["type"] == "http.response.start" and message["status"] >= REFUSED:
                    self._bucket(peer.uid).left += 1
                await send(message)

            await application(scope, receive, counted)

        return paced

    def take(self, uid: int) -> None:
        """Count a change by a user. Raises Problem if it is beyond the limit."""
        bucket = self._bucket(uid)
        if bucket.left < 1:
            left_s = (1 - bucket.left) * HOUR / self._most
            raise Problem(
                429,
                "too-often",
                f"you have reached your limit of {self._most} changes per hour",
                f"try again in {max(1, round(left_s))} s; an administrator can raise limits.changes_per_hour",
            )
        bucket.left -= 1

    def _bucket(self, uid: int) -> _Bucket:
        now = self._clock()
        if len(self._buckets) >= MOST:
            self._buckets = {key: one for key, one in self._buckets.items() if now - one.at < HOUR}
        bucket = self._buckets.setdefault(uid, _Bucket(self._most, now))
        bucket.left = min(self._most, bucket.left + (now - bucket.at) * self._most / HOUR)
        bucket.at = now
        return bucket
