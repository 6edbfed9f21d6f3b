"""Redacts email addresses: administrators see all of them, other users only those of their own notices."""

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from canhazgpu.events.notices import OFFENDER, Delivery
from canhazgpu.events.sanitize import printable
from canhazgpu.service.identity.peer import Peer

_ADDRESS = re.compile(r"([^\s@<>\"',;:()\[\]])[^\s@<>\"',;:()\[\]]*@([^\s@<>\"',;:()\[\]]+)")


def redact(text: str) -> str:
    """Return `text` with every email address reduced to its first letter and domain: `b…@example.com`."""
    return _ADDRESS.sub(r"\1…@\2", text)


class Viewer(msgspec.Struct, frozen=True, kw_only=True):
    """The viewer: an administrator, a user of this host (`user`; `key` in violations), or neither.

    A caller from a container could be any user of this host, and therefore counts as none.
    """

    admin: bool
    user: str | None
    key: str | None

    @classmethod
    def of(cls, peer: Peer, group: int | None) -> "Viewer":
        """Return the caller as a viewer; administrators are root and the members of `group`."""
        known = peer.on_host is not False
        return cls(
            admin=peer.is_admin(group),
            user=printable(peer.name) if known else None,
            key=f"uid:{peer.uid}" if known else None,
        )

    def may_see(self, person: str | None) -> bool:
        """Return whether the viewer may see the addresses of notices to this person."""
        return self.admin or (person is not None and person == self.user)

    def address(self, text: str, person: str | None) -> str:
        """Return a text about a notice to this person, redacted for the viewer."""
        return text if self.may_see(person) else redact(text)

    def delivery(self, one: Delivery, person: str | None) -> Delivery:
        """Return a delivery of a notice to this person, redacted for the viewer."""
        if self.may_see(person):
            return one
        return msgspec.structs.replace(one, recipient=redact(one.recipient), detail=redact(one.detail))

    def deliveries(self, rows: Iterable[Delivery]) -> list[Delivery]:
        """Return attempts redacted for the viewer, who may see addresses for their own violations."""
        return [
            self.delivery(one, self.user if one.audience == OFFENDER and one.group == self.key else None)
            for one in rows
        ]

    def notice(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return a notice's data, redacted for the viewer."""
        if self.may_see(data.get("person")):
            return data
        seen = dict(data)
        if isinstance(seen.get("to"), str):
            seen["to"] = redact(seen["to"])
        if isinstance(seen.get("incident"), dict):
            reason = redact(str(seen["incident"].get("reason", "")))
            seen["incident"] = {**seen["incident"], "reason": reason}
        return seen
