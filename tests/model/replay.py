"""The reservations, bookings, queue and GPUs of a host, rebuilt from its events alone."""

from dataclasses import dataclass, field
from typing import Any

from canhazgpu.events.envelope import Event


@dataclass
class Replay:
    """The state after the events so far."""

    held: dict[str, tuple[int, str, tuple[int, ...], bool]] = field(default_factory=dict)
    expires: dict[str, str | None] = field(default_factory=dict)
    queue: list[str] = field(default_factory=list)
    bookings: set[str] = field(default_factory=set)
    drained: dict[int, str] = field(default_factory=dict)
    unmanaged: set[int] = field(default_factory=set)

    def take(self, event: Event) -> None:
        """Apply one event; other types of events change nothing."""
        noun, _, verb = event.type.removeprefix("canhazgpu.").partition(".")
        data = event.data
        if noun == "booking":
            self._booking(verb, data["id"], maintenance="drain" in data)
        elif noun == "request":
            self._request(verb, data["id"])
        elif noun == "reservation":
            self._reservation(verb, data["id"], data)
        elif verb == "drained":
            self.drained[data["index"]] = data["reason"]
        elif verb == "undrained":
            del self.drained[data["index"]]
        elif verb in ("managed", "unmanaged"):
            (self.unmanaged.add if verb == "unmanaged" else self.unmanaged.remove)(data["index"])

    def _booking(self, verb: str, name: str, *, maintenance: bool) -> None:
        if verb == "created":
            self.bookings.add(name)
        elif verb != "late" and not (verb == "begun" and maintenance):
            self.bookings.remove(name)

    def _request(self, verb: str, name: str) -> None:
        if verb == "queued":
            self.queue.append(name)
        else:
            self.queue.remove(name)

    def _reservation(self, verb: str, name: str, data: dict[str, Any]) -> None:
        gpus = tuple(data["gpus"])
        self.expires[name] = data.get("expires")
        if verb == "created":
            self.held[name] = (data["uid"], data["kind"], gpus, False)
            if "queued" in data:
                self.queue.remove(name)
        elif verb == "ended":
            self.held[name] = (*self.held[name][:3], True)
        elif verb == "released":
            uid, kind, before, ended = self.held.pop(name)
            kept = tuple(index for index in before if index not in gpus)
            if kept:
                self.held[name] = (uid, kind, kept, ended)
            else:
                del self.expires[name]
