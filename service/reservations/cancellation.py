"""Cancelling: requests leave the queue because their user or an administrator says so, wherever they wait."""

from collections.abc import Sequence
from typing import Any

import anyio
import msgspec

from canhazgpu.events.redis_client.scripts import Script
from canhazgpu.service.api.errors import Problem
from canhazgpu.service.reservations.allocator import Allocator

CANCEL = Script("canhazgpu.service.reservations", "cancel")
KEPT = 1000  # Cancelled requests whose clients can still be told by whom.
LISTED = "`canhazgpu queue` lists them"


class Cancellations:
    """Cancels requests, and remembers by whom until their clients ask.

    The memory is only for the wording: a client that asks after a restart of the service is told that its
    request is no longer in the queue.
    """

    def __init__(self, allocator: Allocator) -> None:
        """Remember none."""
        self._allocator = allocator
        self._by: dict[str, str] = {}
        self._lock = anyio.Lock()

    async def cancel(  # noqa: PLR0913 - whose requests, and which of them
        self,
        uid: int,
        operation: str,
        by: str,
        *,
        ids: Sequence[str] | None,
        everything: bool,
        person: int | None = None,
    ) -> list[dict[str, Any]]:
        """Remove requests of `uid` from the queue and return them. Raises Problem and StoreDown.

        `person`: the user behind a uid that several share (`Peer.person`).
        """
        order = {"uid": uid, "by": by, "all": everything, **({} if ids is None else {"ids": list(ids)})}
        if person is not None:
            order["person"] = person
        async with self._lock:
            reply = await self._allocator.change(CANCEL, uid, operation, msgspec.json.encode(order))
            if reply["code"] != "done":
                raise _not_cancelled(reply)
            self._by |= {one["id"]: by for one in reply["cancelled"]}
            for one in list(self._by)[:-KEPT]:
                del self._by[one]
        return list(reply["cancelled"])

    async def reason(self, request: str, user: str) -> Problem | None:
        """Return what the client of a request of `user` is told, or None if it was not cancelled."""
        async with self._lock:  # The answer to whoever cancels it may still be on its way.
            by = self._by.get(request)
        if by is None:
            return None
        if by == user:
            return Problem(409, "cancelled", "the request was cancelled from another terminal")
        detail = f"the request was removed from the queue by {by}, an administrator"
        return Problem(409, "cancelled", detail, "ask them before you submit it again")


def _not_cancelled(reply: dict[str, Any]) -> Problem:
    name = reply.get("id")
    if reply["code"] == "missing":
        return Problem(404, "no-such-request", f"no request {name} is in the queue", LISTED)
    if reply["code"] == "not-yours":
        detail = f"{name} belongs to {', '.join(sorted(set(reply['users'])))}"
        return Problem(403, "not-yours", detail, "you can cancel only your own; administrators add --user")
    found = len(reply["ids"])
    if name:
        return Problem(409, "several", f"{found} requests begin with {name}", LISTED)
    listed = ", ".join(reply["ids"])
    return Problem(409, "several", f"{found} requests are waiting: {listed}", "name one, or use --all")
