"""The expected behaviour of bookings: how they are made, cancelled and begun."""

from collections.abc import Iterator, Sequence

from model.facts import Gpu, Request
from model.promises import NOW, Window
from model.reference import Reference


class BookingReference(Reference):
    """The host with its bookings."""

    began_ms = 0  # The moment of Redis' clock that all times of windows are counted from.

    def book(self, windows: Sequence[Window]) -> str:
        """Promise windows, all or none; they have the ids that Redis gave them."""
        one, before = windows[0], list(self.windows)
        if self.never(Request(one.uid, "manual", one.count, one.named, vendor=one.vendor)):
            return "never"
        for window in windows:
            if not window.drain and not self.fits(window):
                self.windows = before
                return "refused"
            self.windows.append(window)
        self.told += [("booking.created", f"booking/{window.id}") for window in windows]
        return "done"

    def unbook(self, uid: int, name: str) -> str:
        """Cancel a booking."""
        if not any(one.id == name and one.uid == uid for one in self.windows):
            return "not-yours"
        (gone,) = [one for one in self.windows if one.id == name]
        self.windows.remove(gone)
        if gone.begun:
            self.end_maintenance(gone)
        self.told.append(("booking.cancelled", f"booking/{name}"))
        self.serve()
        return "done"

    def gpus_in(self, window: Window) -> list[Gpu]:
        """Return the GPUs of a maintenance, with their instances."""
        indices = {gpu.index for index in window.named or () for gpu in self.with_parts(index)}
        return [self.gpus[index] for index in sorted(indices)]

    def end_maintenance(self, window: Window) -> None:
        """Undrain what is drained for a maintenance, or take over the drain for another one."""
        for gpu in self.gpus_in(window):
            others = [one for one in self.windows if one.begun and gpu in self.gpus_in(one)]
            if gpu.drained == window.drain:
                last = max(others, key=lambda one: (one.begin, one.id), default=None)
                self.mark(gpu, last.drain if last else "")

    def begin(self, ids: Iterator[str]) -> None:
        """Begin the bookings that are due; `ids` are the reservations that they become."""
        claimed: set[int] = set()
        due = sorted((one for one in self.windows if one.begin <= NOW), key=lambda one: (one.begin, one.id))
        begins = [one for one in due if one.drain and not one.begun]
        for window in begins:
            window.begun = True
            for gpu in self.gpus_in(window):
                self.mark(gpu, gpu.drained or window.drain)
            self.told.append(("booking.begun", f"booking/{window.id}"))
        due = [one for one in due if not one.drain]
        for window in due:
            request = Request(window.uid, "manual", window.count, window.named, vendor=window.vendor)
            request.lasts, request.booking = window.end, window.id
            may = self.candidates(request, claimed)
            if len(may) >= request.need:
                request.id = next(ids)
                self.grant(request, may)
                self.windows.remove(window)
                self.told.append(("booking.begun", f"booking/{window.id}"))
                continue
            if self.possible(window):
                claimed |= {gpu.index for index in may[: request.need] for gpu in self.with_parts(index)}
            settling = [
                gpu for gpu in self.gpus.values() if request.accepts(gpu) and self.settling(gpu, request)
            ]
            if not window.late and len(may) + len(settling) < request.need:
                window.late = True
                self.told.append(("booking.late", f"booking/{window.id}"))
        if due or begins:
            self.serve()

    def settling(self, gpu: Gpu, request: Request) -> bool:
        """Tell whether all that keeps a booking from a GPU and its instances is about to end."""
        blocked = [one for one in self.with_parts(gpu.index) if not self.free_alone(one, request)]
        return bool(blocked) and all(map(self.settles, blocked))

    def settles(self, gpu: Gpu) -> bool:
        """Tell whether a GPU is about to become free, or to be known."""
        if not gpu.managed or gpu.holder:
            return gpu.managed and self.alone_until(gpu) <= NOW
        return not gpu.drained and gpu.state != "error" and (gpu.state != "ok" or not gpu.settled)
