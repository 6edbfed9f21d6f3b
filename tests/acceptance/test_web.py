"""`canhazgpu web` over a real service, without a browser: what it answers, and what it never tells."""

import json
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import Daemon, gpu, until, use
from support.eventually import slowness
from support.hostile import toml
from support.people import Person
from support.web import Page, Watcher, page_of

from canhazgpu.cli.web.feed import WATCHED

HOSTILE = "</li><script>alert(1)</script>\u202e"
PAGES = ("/", "/timeline", "/timeline?span=week", "/violations", "/report", "/report?by=day", "/deliveries")
HEADER = "X-Remote-User"


@pytest.fixture(scope="module")
def page(lasting_host: Daemon) -> Iterator[Page]:
    """The page of a service on four idle GPUs, for tests that leave it as it was."""
    with page_of(lasting_host, CANHAZGPU_WEB_USER_HEADER=HEADER) as page:
        yield page


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_complete_without_javascript(page: Page, path: str) -> None:
    """Each page arrives as HTML with its content, a policy against foreign code, and no cookie."""
    answer = page.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    assert "set-cookie" not in answer.headers
    assert answer.text.endswith("</html>")
    assert "<h1>" in answer.text
    assert "://" not in answer.text  # Nothing is loaded from elsewhere.


def test_the_state_is_in_the_page(page: Page, lasting_host: Daemon) -> None:
    """Each GPU has a card; a reservation shows its holder, its end and its note."""
    reserved = lasting_host.run("reserve", "--gpu-ids", "2", "--duration", "2h", "--note", "for the paper")
    assert reserved.returncode == 0, reserved.stderr
    try:
        text = until(lambda: (found := page.get().text).count(">reserved<") == 1 and found)
        assert text.count("<article") == 4
        assert "4 GPUs: 3 available, 1 reserved" in text
        assert "for the paper" in text
        assert "in 2h 0m" in text
    finally:
        lasting_host.run("release", "2")


def test_a_change_arrives_at_once(page: Page, lasting_host: Daemon) -> None:
    """Who watches gets an event sooner than at the next regular reading, and only what changed."""
    known = page.get().text.partition('data-version="')[2].partition('"')[0]
    watcher = Watcher(page, known)
    delays = []
    try:
        watcher.until("event: beat")
        for number in range(5):
            began = time.monotonic()
            lasting_host.run("reserve", "--gpu-ids", "1", "--note", f"a new note {number}")
            watcher.until(f"a new note {number}")
            delays.append(time.monotonic() - began)
            watcher.received = b""
            lasting_host.run("release", "1")
            watcher.until("4 available")
        assert statistics.median(delays) < WATCHED * slowness(), delays
        assert b'["set","now"' not in watcher.received
    finally:
        watcher.close()
        lasting_host.run("release", "1")


def test_two_hundred_browsers_watch_at_once(page: Page, lasting_host: Daemon) -> None:
    """All of them get a change, and the process needs at most 80 MB."""
    watchers = [Watcher(page) for _ in range(200)]
    try:
        for watcher in watchers:
            watcher.until("event: beat")
        lasting_host.run("reserve", "--gpu-ids", "3", "--note", "for two hundred")
        for watcher in watchers:
            watcher.until("for two hundred")
        assert page.memory_mb() < 80
    finally:
        for watcher in watchers:
            watcher.close()
        lasting_host.run("release", "3")


def test_the_user_that_a_proxy_names_is_marked(page: Page) -> None:
    """The header names the reader, in the page and for the filter; without it nobody is named."""
    text = page.get("/?mine=1", headers={HEADER: 'eve"><script>'}).text
    assert 'data-me="eve&quot;&gt;&lt;script&gt;"' in text
    assert 'class="only-mine"' in text
    assert "data-me" not in page.get("/?mine=1").text
    assert 'class="only-mine"' not in page.get("/?mine=1").text


def test_times_are_in_the_zone_of_the_reader(page: Page) -> None:
    """The cookie that the script sets chooses the zone of times and of a report; a bad one is ignored."""
    assert "JST</time>" in page.get(cookies={"zone": "Asia/Tokyo"}).text
    assert "times in Asia/Tokyo" in page.get("/report", cookies={"zone": "Asia/Tokyo"}).text
    for bad in ("../../etc/passwd", "Nowhere/Else", "x" * 300):
        assert "UTC</time>" in page.get(cookies={"zone": bad}).text


@pytest.mark.parametrize("name", ["evil.example", "127.0.0.1.evil.example:80", "localhost.evil", ""])
def test_another_name_is_refused(page: Page, name: str) -> None:
    """A site whose name points to the loopback address reads nothing."""
    answer = page.get(headers={"Host": name})
    assert answer.status_code == 421
    assert "GPU" not in answer.text
    assert page.get(headers={"Host": f"localhost:{page.port}"}).status_code == 200


def test_nothing_can_be_changed(page: Page) -> None:
    """Only GET and HEAD are answered."""
    import httpx  # noqa: PLC0415 - one test needs it

    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert httpx.request(method, page.url + "/", timeout=20).status_code == 405
    assert httpx.head(page.url + "/", timeout=20).status_code == 200


def test_unknown_addresses_and_words_do_no_harm(page: Page) -> None:
    """There is no such page, file or violation; unknown words of a query are ignored."""
    for path in ("/x", "/static/../web.py", "/static/%2e%2e/web.py", "/static/web.py"):
        assert page.get(path).status_code == 404
    missing = page.get("/violations/v1<script>")
    assert missing.status_code == 404
    assert "<script>" not in missing.text.partition("<body")[2]
    for path in ("/timeline?span=x", "/report?by=x&since=x", "/violations?since=%00"):
        assert page.get(path).status_code == 200
    watcher = Watcher(page, "9" * 50)
    watcher.until('["set","now"')
    watcher.close()


def test_a_stopped_service_is_told(folder: Path) -> None:
    """While the service is away the page says so and shows what was known; then it is current again."""
    daemon = Daemon(folder).start()
    with page_of(daemon) as page:
        assert "This is not the current state" not in page.get().text
        watcher = Watcher(page)
        watcher.until("available")
        daemon.stop(signal.SIGKILL)
        watcher.until("This is not the current state")
        assert "GPU 0" in page.get().text
        assert page.get("/report").status_code == 503
        watcher.received = b""
        daemon.start()
        watcher.until('"class":"notice empty"')
        watcher.close()
    daemon.stop()


def test_hostile_names_are_text(folder: Path) -> None:
    """A process, a model and a note with code in them are shown as they are, in the page and in events."""
    daemon = Daemon(folder)
    process = f"pid = 5004242;memory_mb = 900;user = {toml(HOSTILE)};name = {toml('<b>' + 'x' * 10_000)}"
    daemon.place(gpu(0, process).replace("index = 0", f"index = 0\nname = {toml(HOSTILE)}"), gpu(1))
    daemon.start()
    until(lambda: "WITHOUT" in daemon.status())
    daemon.run("reserve", "--gpu-ids", "1", "--note", HOSTILE.replace("\u202e", ""))
    with page_of(daemon) as page:
        for path in ("/", "/timeline", "/violations", "/report"):
            text = page.get(path).text
            assert text.count("<script") == 1, path
            assert "<b>" not in text
            assert "\u202e" not in text
            assert len(text) < 30_000
        assert "&lt;/li&gt;&lt;script&gt;" in page.get().text
    daemon.stop()


def test_no_page_has_an_address(mailing: tuple[Daemon, Path]) -> None:
    """Deliveries and time lines show no mail address in full, although root runs the page."""
    daemon, mails = mailing
    process = subprocess.Popen(["sleep", "600"])
    try:
        daemon.place(gpu(0, use(process.pid, 2000)))
        until(lambda: list(mails.glob("*.eml")), 20)
        until(lambda: "admins@example.com" in daemon.run("deliveries").stdout, 20)
        with page_of(daemon) as page:
            (violation,) = json.loads(daemon.run("violations", "--json").stdout)
            texts = [page.get(path).text for path in ("/deliveries", f"/violations/{violation['violation']}")]
        assert "a…@example.com" in texts[0]
        assert all("admins@" not in text and "root@" not in text for text in texts)
    finally:
        process.kill()
        process.wait()


def test_any_user_can_run_it(lasting_host: Daemon, people: list[Person]) -> None:
    """The page needs no rights."""
    with page_of(lasting_host, people[0]) as page:
        assert "4 GPUs" in page.get().text
        assert page.stop() == 0


def test_it_ends_while_somebody_watches(lasting_host: Daemon) -> None:
    """SIGTERM and Ctrl-C end it with 0, although a browser is connected."""
    for number in (signal.SIGTERM, signal.SIGINT):
        with page_of(lasting_host) as page:
            watcher = Watcher(page)
            watcher.until("event: beat")
            assert page.stop(number) == 0
            watcher.close()
