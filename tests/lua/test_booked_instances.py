"""Bookings on a host whose cards are divided: numbers are of whole GPUs, instances have names."""

import time
from typing import Any

import pytest
from support.mig import Division, MigHost, at
from support.reservations import ALICE, BOB

from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.bookings.bookings import BookingRequest, BookingResult, Bookings
from canhazgpu.service.reservations.releases import ReleaseOrder

pytestmark = pytest.mark.anyio
HOUR = 3_600_000
SMALL, LARGE = "1g.10gb", "3g.40gb"
ONE: Division = {0: {0: SMALL, 1: LARGE}}  # A divided card, and whole ones.


class BookedHost(MigHost):
    """A host with bookings; a reservation lasts eight hours, and `begin` is in hours from now."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.bookings = Bookings(store, self.allocator)
        self._began_ms, self._booked = round(time.time() * 1000), 0

    async def book(self, begin: float, *names: str, count: int | None = None) -> BookingResult:
        """Book GPUs for two hours, as Alice."""
        self._booked += 1
        begin_ms = self._began_ms + round(begin * HOUR)
        what: dict[str, Any] = {"gpus": tuple(map(at, names))} if names else {"count": count}
        request = BookingRequest(
            user="u1001", uid=ALICE, begin_ms=begin_ms, end_ms=begin_ms + 2 * HOUR, **what
        )
        return await self.bookings.book(request, f"book{self._booked}")

    async def booked(self, begin: float, *names: str, count: int | None = None) -> None:
        """Book GPUs, which can be had."""
        result = await self.book(begin, *names, count=count)
        assert result.code == "done", result

    async def free(self, *names: str) -> None:
        """Release GPUs as an administrator."""
        order = ReleaseOrder(uid=0, by="root", reason="admin", gpus=tuple(map(at, names)), admin=True)
        assert (await self.allocator.release(order, f"free{names}"))[0] == "released"


@pytest.fixture
async def host(store: Store) -> BookedHost:
    """A host with a divided card, GPU 0, and a whole one."""
    made = BookedHost(store)
    await made.look(ONE)
    return made


async def test_a_number_of_gpus_is_promised_of_whole_ones(host: BookedHost) -> None:
    """The promise keeps the whole GPU from others, and no instance, whether it is named or asked for."""
    assert (await host.book(4, count=2)).code == "never"
    await host.booked(4, count=1)
    assert (await host.book(4, count=1)).code == "refused"
    assert (await host.reserve(BOB, count=1)).code == "refused"
    assert await host.take(BOB, "1") == "refused"
    assert (await host.reserve(BOB, count=1, profile=LARGE)).code == "granted"
    assert await host.take(BOB, "0:0") == "granted"


async def test_an_instance_can_be_booked_beside_a_promise_that_lacks_gpus(host: BookedHost) -> None:
    """The whole GPU that is promised is drained; that is no matter of the instances."""
    await host.booked(4, count=1)
    await host.drain(1)
    assert (await host.book(4, "0:0")).code == "done"
    assert (await host.book(4, "0")).code == "refused"  # It has that instance.


async def test_a_card_whose_instance_is_held_is_not_called_booked(host: BookedHost) -> None:
    """A refusal names the instance that is in the way, and does not count the card as promised."""
    await host.booked(4, count=1)
    assert await host.take(BOB, "0:0") == "granted"
    refused = await host.reserve(ALICE, 0)
    assert [(one.gpu, one.why) for one in refused.blocked] == [(at("0:0"), "held")]


async def test_a_divided_card_is_not_promised_as_one_of_a_number(host: BookedHost) -> None:
    """It can be held by its name in spite of the promise, together with what is not promised."""
    await host.look(ONE, cards=3)
    await host.booked(4, count=1)
    assert await host.take(BOB, "0", "1", "2") == "refused"
    assert await host.take(BOB, "0", "1") == "granted"
    assert await host.take(BOB, "2") == "refused"


async def test_what_waits_claims_only_what_is_not_promised(host: BookedHost) -> None:
    """A request for an instance and for a promised GPU claims the instance only."""
    await host.booked(4, count=1)
    assert (await host.reserve(BOB, at("0:0"), 1, wait=True)).code == "queued"
    assert await host.take(BOB, "0:0") == "refused"
    refused = await host.reserve(BOB, at("0:0"), 1)
    assert [(one.gpu, one.why) for one in refused.blocked] == [(1, "promised"), (at("0:0"), "claimed")]


async def test_a_window_of_a_divided_card_has_its_instances(host: BookedHost) -> None:
    """What lasts into it gets neither the card nor an instance; the booking begins with all of them."""
    await host.booked(4, "0")
    for names in (("0",), ("0:0",), ("0:1",)):
        assert await host.take(BOB, *names) == "refused"
    assert (await host.reserve(BOB, count=1, profile=LARGE)).code == "refused"
    assert (await host.reserve(BOB, count=1)).code == "granted"
    assert (await host.book(5, "0:1")).code == "refused"
    assert (await host.book(6, "0:1")).code == "done"
    await host.booked(0, "0")
    await host.bookings.begin()
    assert await host.held() == {"0": ALICE, "0:0": ALICE, "0:1": ALICE, "1": BOB}


async def test_a_window_of_an_instance_keeps_its_card_from_others(host: BookedHost) -> None:
    """The other instances are left to everybody; the refusal names what is booked."""
    await host.booked(4, "0:1")
    refused = await host.reserve(BOB, 0)
    assert [(one.gpu, one.why) for one in refused.blocked] == [(0, "promised")]
    assert (await host.book(5, "0")).code == "refused"
    assert await host.take(BOB, "0:1") == "refused"
    assert await host.take(BOB, "0:0") == "granted"
    await host.booked(0, "0:1")
    await host.bookings.begin()
    assert await host.held() == {"0:0": BOB, "0:1": ALICE}


async def test_an_instance_that_is_held_keeps_its_card_from_a_booking(host: BookedHost) -> None:
    """A card is promised from when on its last instance is free."""
    assert await host.take(BOB, "0:0") == "granted"
    assert (await host.book(7, "0")).code == "refused"
    assert (await host.book(9, "0")).code == "done"


async def test_a_promised_card_that_is_divided_makes_the_booking_late(host: BookedHost) -> None:
    """As a GPU in error does; the event says that it is divided, and the instances are granted."""
    await host.look({})
    await host.look({})
    await host.booked(0, count=2)
    await host.look(ONE)
    await host.bookings.begin()
    (late,) = await host.published("booking.late")
    assert late.data["obstacles"] == [{"gpu": 0, "why": "divided"}]
    assert await host.held() == {}
    assert (await host.reserve(BOB, count=1, profile=SMALL)).code == "granted"
    assert (await host.reserve(BOB, count=1)).code == "granted"
    await host.free("0:0")
    await host.free("1")
    for _ in range(2):
        await host.look({})
    await host.bookings.begin()
    assert await host.held() == {"0": ALICE, "1": ALICE}


async def test_an_instance_in_error_makes_the_booking_of_its_card_late(host: BookedHost) -> None:
    """It begins when the instance can be used again."""
    await host.booked(0, "0")
    await host.drain(at("0:1"))
    await host.bookings.begin()
    (late,) = await host.published("booking.late")
    assert late.data["obstacles"] == [{"gpu": at("0:1"), "why": "drained"}]
    assert await host.held() == {}
    assert await host.take(BOB, "0:0") == "granted"
    await host.free("0:0")
    await host.look(ONE)
    await host.drain(at("0:1"), None)
    await host.bookings.begin()
    assert await host.held() == {"0": ALICE, "0:0": ALICE, "0:1": ALICE}


async def test_extending_an_instance_is_no_matter_of_whole_gpus(host: BookedHost) -> None:
    """A promise that lacks GPUs already does not keep instances from their holder; one by name does."""
    assert await host.take(ALICE, "0:0") == "granted"
    await host.booked(9, count=1)
    await host.drain(1)
    reply = await host.allocator.extend(ALICE, "e1", gpus=[at("0:0")], add_ms=4 * HOUR, most_ms=None)
    assert reply["code"] == "extended"
    await host.booked(13, "0")
    reply = await host.allocator.extend(ALICE, "e2", gpus=[at("0:0")], add_ms=4 * HOUR, most_ms=None)
    assert reply["code"] == "promised"
