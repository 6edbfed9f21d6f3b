"""The steps with bookings: users book and cancel, and the service begins what is due."""

import random
import uuid
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule
from model.plumbing import Host
from model.promises import Window

from canhazgpu.service.bookings.bookings import BEGIN, BookingRequest

MINUTE = 60_000
# Minutes from the first step; neither is the end of a reservation, which lasts for a number of hours.
BEGINS = st.sampled_from((0, 0, 210, 210, 750, 1350, 1870))
LENGTHS = st.sampled_from((125, 440, 757, 1555))
AGAIN = 1457  # From one window of a series to the next.
NAMED = st.sampled_from(  # Of one vendor.
    ((0,), (1,), (0, 1), (2,), (3,), (2, 3), (1024,), (2049,), (0, 2048))
)
UIDS = st.sampled_from((1001, 1002, 1003))


class BookingSteps(Host):
    """The steps of bookings."""

    def __init__(self) -> None:
        super().__init__()
        self.outside: object = None  # What no script decides: the GPUs, and who uses them.
        self.short: set[str] = set()

    @invariant()
    def the_promises_are_kept(self) -> None:
        """No script makes a window lack GPUs; those that lack none can begin, whatever GPUs are chosen."""
        gpus = self.model.gpus.values()
        outside: list[Any] = [
            (gpu.managed, gpu.drained, gpu.state, bool(gpu.users and not gpu.holder)) for gpu in gpus
        ]
        outside.append(tuple(one.id for one in self.model.windows if one.drain))
        short = self.model.shortfalls()
        if outside == self.outside:
            assert short <= self.short
        self.outside, self.short = outside, short
        if not short:
            for turn in range(3):
                self.model.play(random.Random(turn).sample)

    @rule(
        uid=UIDS,
        begin=BEGINS,
        length=LENGTHS,
        count=st.integers(1, 4),
        named=st.one_of(st.none(), st.none(), NAMED),
        vendor=st.sampled_from((None, None, "nvidia", "amd")),
        repeats=st.sampled_from((0, 0, 0, 1, 2)),
    )
    def book(
        self, uid: int, begin: int, length: int, count: int, named: Any, vendor: Any, repeats: int
    ) -> None:
        """A user books GPUs, perhaps from now on, perhaps several times."""
        self.promise(uid, begin, length, count, named, vendor, repeats, "")

    @rule(
        uid=UIDS,
        begin=st.sampled_from((0, 0, 0, 210)),
        length=LENGTHS,
        named=NAMED,
        reason=st.sampled_from(("cooler", "cooler", "firmware")),
        begins=st.booleans(),
    )
    def maintain(self, uid: int, begin: int, length: int, named: Any, reason: str, *, begins: bool) -> None:
        """An administrator plans maintenance, which may begin at once."""
        self.promise(uid, begin, length, 0, named, None, 0, reason)
        if begins:
            self.begin_bookings()

    def promise(
        self, uid: int, begin: int, length: int, count: int, named: Any, vendor: Any, repeats: int, drain: str
    ) -> None:
        """Book windows, or maintenance."""
        named = named and self.existing(named)
        count, vendor = (len(named), None) if named else (count, vendor)
        windows = [
            Window(uid, one * MINUTE, (one + length) * MINUTE, count, named, vendor, drain=drain)
            for one in range(begin, begin + repeats * AGAIN + 1, AGAIN)
        ]
        request = BookingRequest(
            user=f"u{uid}",
            uid=uid,
            count=None if named else count,
            gpus=named,
            vendor=vendor,
            begin_ms=self.model.began_ms + windows[0].begin,
            end_ms=self.model.began_ms + windows[0].end,
            more=tuple(self.model.began_ms + one.begin for one in windows[1:]),
            drain=drain or None,
        )
        operation = uuid.uuid4().hex
        result = self.do(self.bookings.book(request, operation))
        for window, booked in zip(windows, result.booked, strict=False):
            window.id = booked.id
        self.agree(result.code, self.model.book(windows))

        def again() -> None:
            assert self.do(self.bookings.book(request, operation)) == result
            self.agree("", "")

        self.again = again

    @precondition(lambda self: self.model.windows)
    @rule(uid=UIDS, choice=st.integers(0, 9))
    def cancel_booking(self, uid: int, choice: int) -> None:
        """Somebody cancels a booking, which may be another user's."""
        name = self.model.windows[choice % len(self.model.windows)].id
        operation = uuid.uuid4().hex
        reply = self.do(self.bookings.cancel(uid, operation, "x", ids=[name]))
        self.agree(reply["code"], self.model.unbook(uid, name))

    @rule()
    def begin_bookings(self) -> None:
        """The service begins the bookings that are due."""
        reply = self.do(self.allocator.run(BEGIN, 0, "begin", ["0"], [self.store.keys.bookings]))
        self.model.begin(iter([record["id"] for record in reply["begun"]]))
        self.agree("", "")
