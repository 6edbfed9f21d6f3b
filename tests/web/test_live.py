"""The page in a browser: it changes with the host, and says so when it cannot."""

import json
import signal
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.browser import LIVE, has_text, tab, wait
from support.daemon import Daemon, gpu, until, use
from support.eventually import slowness
from support.fleet import fleet_server
from support.web import Page, page_of

pytestmark = [pytest.mark.web, pytest.mark.timeout(300)]
# Notes the time at which a text appears.
APPEARS = """text => new Promise(resolve => {
  const look = () => document.body.textContent.includes(text) && resolve(Date.now());
  new MutationObserver(look).observe(document.body, {subtree: true, childList: true, characterData: true});
})"""
BEGIN = f"text => {{ window.appeared = ({APPEARS})(text); }}"


@contextmanager
def running(daemon: Daemon) -> Iterator[Daemon]:
    """Run a service until the block ends."""
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.stop()


def test_an_event_is_seen_within_a_second(browser: Any, page: Page, lasting_host: Daemon) -> None:
    """Most reservations are on the page less than a second after the time that their event has."""
    delays = []
    with tab(browser) as shown:
        shown.goto(page.url)
        wait(shown, LIVE)
        for number in range(5):
            shown.evaluate(BEGIN, f"note {number}")
            reserved = lasting_host.run("reserve", "--gpu-ids", "1", "--note", f"note {number}")
            assert reserved.returncode == 0, reserved.stderr
            seen = shown.evaluate("window.appeared")
            began = lasting_host.redis().hvals("canhazgpu:{testhost}:reservations")[0]
            delays.append(seen - _started_ms(began))
            lasting_host.run("release", "1")
            wait(shown, "!" + has_text(f"note {number}"))
    assert statistics.median(delays) < 1000 * slowness(), delays


def _started_ms(record: bytes) -> int:
    return int(json.loads(record)["started_ms"])


def test_the_service_is_killed_and_comes_back(browser: Any, folder: Path) -> None:
    """The page keeps what was known and says that it is old; then it is current again, without a reload."""
    with running(Daemon(folder)) as daemon, page_of(daemon) as page, tab(browser) as shown:
        shown.goto(page.url)
        wait(shown, LIVE)
        daemon.stop(signal.SIGKILL)
        wait(shown, "document.getElementById('notice').textContent.includes('This is not the current state')")
        assert shown.locator("article").count() == 1
        daemon.start()
        wait(shown, "document.querySelector('#notice.empty') !== null")
        assert daemon.run("reserve", "--note", "after the break").returncode == 0
        wait(shown, has_text("after the break"))


def test_the_page_itself_is_killed_and_comes_back(browser: Any, lasting_host: Daemon) -> None:
    """The browser says since when it is not connected; it connects again, and has what was missed."""
    with page_of(lasting_host) as page, tab(browser) as shown:
        shown.goto(page.url)
        wait(shown, LIVE)
        page.stop(signal.SIGKILL)
        wait(shown, has_text("Not connected since "))
        assert shown.evaluate("document.body.classList.contains('stale')")
        lasting_host.run("reserve", "--gpu-ids", "2", "--note", "missed")
        page.start()
        wait(shown, LIVE)
        wait(shown, has_text("missed"))
        lasting_host.run("release", "2")


def test_what_the_reader_does_survives_a_change(browser: Any, folder: Path) -> None:
    """An open list of processes stays open and keeps the focus while its contents change."""
    daemon = Daemon(folder)
    daemon.place(gpu(0, use(4242, 2048, "bob", "first.py")))
    with running(daemon), page_of(daemon) as page, tab(browser) as shown:
        until(lambda: "WITHOUT" in daemon.status())
        shown.goto(page.url)
        wait(shown, LIVE)
        shown.focus("summary")
        shown.keyboard.press("Enter")
        assert shown.evaluate("document.querySelector('details').open")
        daemon.place(gpu(0, use(4242, 4096, "bob", "second.py")))
        wait(shown, "document.querySelector('details').textContent.includes('4.0 GiB')")
        assert shown.evaluate("document.querySelector('details').open")
        assert shown.evaluate("document.activeElement.matches('summary')")


def test_all_hosts_are_live(browser: Any, tmp_path: Path) -> None:
    """The page of the fleet follows another host without a reload, and says when it is not connected."""
    with ExitStack() as resources:
        server = resources.enter_context(fleet_server(tmp_path))
        fleet = f'[fleet]\nurl = "redis://127.0.0.1:{server.port}"\ninterval = "1s"\n'
        one, two = (resources.enter_context(_member(name, fleet)) for name in ("gpu01", "gpu02"))
        until(lambda: one.run("status", "--host", "gpu02").returncode == 0, 60)
        with page_of(one) as page, tab(browser) as shown:
            shown.goto(f"{page.url}/hosts")
            wait(shown, LIVE)
            rows = "document.querySelectorAll('#hosts-rows > tr').length"
            wait(shown, f"{rows} === 2", 60)
            assert two.run("reserve", "--note", "elsewhere").returncode == 0
            row = "document.getElementById('host-gpu02').textContent"
            wait(shown, f"{row}.includes('1 reserved')", 60)
            with tab(browser) as single:
                single.goto(f"{page.url}/hosts/gpu02")
                wait(single, LIVE)
                assert two.run("release").returncode == 0
                wait(single, "!" + has_text("elsewhere"), 60)
            page.stop(signal.SIGKILL)
            wait(shown, has_text("Not connected since "))


@contextmanager
def _member(name: str, fleet: str) -> Iterator[Daemon]:
    with (
        tempfile.TemporaryDirectory(prefix="chg-", dir="/tmp") as folder,
        running(Daemon(Path(folder), fleet, host=name)) as daemon,
    ):
        yield daemon
