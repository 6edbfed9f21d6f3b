"""Bookings on the page of a real service: the next ones, the calendar below the time line, the feed."""

import re
import signal
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.daemon import Daemon, gpu, until
from support.web import Page, Watcher, page_of

from canhazgpu.client import Client
from canhazgpu.client.reservations import post

HOSTILE = "</li><script>alert(1)</script>\r\nEND:VEVENT"
ADDRESS = "ask bob.builder@example.com"
MANY = 120
LARGEST = 100_000


@pytest.fixture(scope="module")
def host() -> Iterator[Daemon]:
    """Four idle GPUs, of which as many can be booked as somebody likes."""
    with tempfile.TemporaryDirectory(prefix="chg-", dir="/tmp") as name:
        daemon = Daemon(Path(name), "[bookings]\nmax_per_user = 1000\n")
        daemon.place(*map(gpu, range(4)))
        daemon.start()
        yield daemon
        daemon.stop()


@pytest.fixture
def page(host: Daemon) -> Iterator[Page]:
    """The page of this host; its bookings are cancelled in the end."""
    with page_of(host) as page:
        yield page
    for one in Client(str(host.folder / "s")).get("/v1/bookings"):
        post(Client(str(host.folder / "s")), "/v1/bookings/cancel", {"ids": [one["id"]]})


def book(host: Daemon, hours: float, **facts: Any) -> str:
    """Book GPUs for an hour that begins in so many hours; return the id."""
    begin = (datetime.now(UTC) + timedelta(hours=hours)).isoformat(timespec="seconds")
    body = {"begin": begin, "zone": "UTC", "duration": "1h", **facts}
    return str(post(Client(str(host.folder / "s")), "/v1/bookings", body)["id"])


def listed(text: str) -> list[str]:
    """Return the lines of the list of the next bookings, without tags."""
    _, _, section = text.partition('id="bookings-list"')
    rows = re.findall(r'<li id="booking-[^"]*".*?</li>|<li .*?</li>', section.partition("</ul>")[0])
    return [re.sub("<[^>]*>", "", row) for row in rows]


def test_the_next_bookings_are_on_the_page_about_now(host: Daemon, page: Page) -> None:
    """Those of the next 24 hours, as they are made; each says who, what, and from when until when."""
    assert "Nothing is booked for the next 24 hours." in page.get().text
    watcher = Watcher(page)
    watcher.until("event: beat")
    book(host, 30, count=1)
    book(host, 3, count=2, note="course")
    watcher.until('["strong",{"data-user":"root"},["root"]]')
    watcher.close()
    (row,) = listed(page.get().text)
    clock = r"([A-Z][a-z]+ \d+, )?\d\d:\d\d UTC"
    assert re.fullmatch(
        rf"root has booked 2 GPUs from {clock} to {clock}, in (3h|2h 59m)( 0m)?course", row
    ), row
    for number in range(8):
        book(host, 4 + number, gpus=[0, 1])
    until(lambda: '<a href="/timeline">6 more</a>' in page.get().text)
    assert len(listed(page.get().text)) == 3


def test_the_calendar_has_a_row_for_each_named_gpu(host: Daemon, page: Page) -> None:
    """Numbers of GPUs have rows of their own, which are shared by bookings that do not overlap."""
    assert "Nothing is booked for the next day" in page.get("/timeline").text
    for hours, facts in (
        (2, {"gpus": [0, 3]}),
        (6, {"gpus": [3]}),
        (2, {"count": 2}),
        (4, {"count": 2}),
        (4.2, {"count": 1}),
        (4.5, {"count": 1}),
        (100, {"count": 4, "note": "in four days"}),
    ):
        book(host, hours, **facts)
    for span, rows in (("day", 5), ("week", 6)):
        text = page.get(f"/timeline?span={span}").text
        _, _, calendar = text.partition('id="booked"')
        labels = re.findall(r'aria-label="([^"]*)"', calendar)
        expected = [
            "GPU 0: 1 booking of root",
            "GPU 3: 2 bookings of root",
            "2 GPUs: 2 bookings of root",
            "1 GPU: 1 booking of root",
            "1 GPU: 1 booking of root",
            "4 GPUs: 1 booking of root",
        ]
        assert labels == expected[:rows]
        assert calendar.count("<rect") == sum(int(label.split()[2]) for label in labels)
        assert "All 7 bookings as a table" in calendar
        assert "in four days" in calendar
        assert 'href="/bookings.ics"' in calendar


def test_words_of_users_are_text_without_addresses(host: Daemon, page: Page) -> None:
    """In the list, in the calendar and in the feed; there they cannot begin another event either."""
    book(host, 2, count=1, note=HOSTILE)
    book(host, 3, count=1, note=ADDRESS)
    until(lambda: len(listed(page.get().text)) == 2)
    for path in ("/", "/timeline"):
        text = page.get(path).text
        assert text.count("<script") == 1
        assert "&lt;script&gt;" in text
        assert "bob.builder@" not in text
        assert "b…@example.com" in text
    feed = page.get("/bookings.ics").text
    assert "bob.builder@" not in feed
    assert feed.count("\r\nEND:VEVENT\r\n") == 2
    assert "\r\nDESCRIPTION:ask b…@example.com\r\n" in feed


def test_the_feed(host: Daemon, page: Page) -> None:
    """A calendar with the id of each booking, and the headers of every answer."""
    name = book(host, 50, gpus=[1], note="thesis - part 2")
    answer = page.get("/bookings.ics")
    assert answer.headers["content-type"] == "text/calendar; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.text.startswith("BEGIN:VCALENDAR\r\nVERSION:2.0\r\n")
    assert f"\r\nUID:{name}@testhost\r\n" in answer.text
    assert "\r\nSUMMARY:GPU 1 of testhost\\, booked by root\r\n" in answer.text
    assert "\r\nDESCRIPTION:thesis - part 2\r\n" in answer.text
    assert page.get("/bookings.ics", headers={"Host": "evil.example"}).status_code == 421


def test_pages_stay_small(host: Daemon, page: Page) -> None:
    """With many bookings, and notes that are as long as possible, no page has more than 100 kB."""
    for number in range(MANY):
        book(host, 1 + number * 1.01, count=1, note='"' * 200)
    until(lambda: len(listed(page.get().text)) == 3)
    for path in ("/", "/timeline", "/timeline?span=week"):
        assert len(page.get(path).content) <= LARGEST, path
    assert "of which the first 50 are shown" in page.get("/timeline").text
    assert page.get("/bookings.ics").text.count("BEGIN:VEVENT") == MANY


def test_a_stopped_service(folder: Path) -> None:
    """The feed says that there is no answer; a program that subscribes keeps what it has."""
    daemon = Daemon(folder).start()
    with page_of(daemon) as page:
        assert page.get("/bookings.ics").status_code == 200
        daemon.stop(signal.SIGKILL)
        answer = page.get("/bookings.ics")
        assert answer.status_code == 503
        assert answer.headers["content-type"].startswith("text/plain")
    daemon.stop()
