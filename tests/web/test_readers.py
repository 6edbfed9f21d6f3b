"""The page for every reader: small screens, the keyboard, screen readers, both themes, no script."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.browser import LIVE, MIDDLE, NARROW, WIDE, has_text, tab, wait
from support.daemon import Daemon, gpu, until, use
from support.hostile import toml
from support.web import Page, page_of

from canhazgpu.cli.web.pages import layout
from canhazgpu.cli.web.pages.hosts import hosts_page
from canhazgpu.cli.web.pages.now import State
from canhazgpu.cli.web.viewer import Viewer

pytestmark = [pytest.mark.web, pytest.mark.timeout(300)]
HOSTILE = "</script><img src=x onerror=window.harmed=1><script>window.harmed=1</script>\u202e"
# The cells whose head, which is drawn before them on a narrow screen, reaches into their text.
COVERED = """() => [...document.querySelectorAll('td')].filter(cell => {
  const head = getComputedStyle(cell, '::before');
  if (head.position !== 'absolute') return false;
  const probe = document.createElement('span');
  probe.style.cssText = 'position:absolute;white-space:nowrap';
  probe.textContent = cell.dataset.head;
  cell.append(probe);
  const wide = probe.getBoundingClientRect().width;
  probe.remove();
  return wide > parseFloat(getComputedStyle(cell).paddingLeft);
}).map(cell => cell.dataset.head)"""
# How many lines the name of the first host takes.
LINES = """() => { const link = document.querySelector('#hosts-rows a');
  return link.getBoundingClientRect().height / parseFloat(getComputedStyle(link).lineHeight); }"""
PAGES = ("/", "/timeline", "/timeline?span=week", "/violations", "/report", "/report?by=gpu", "/deliveries")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The page of a host where much is wrong, and whose names are made to do harm."""
    import tempfile  # noqa: PLC0415 - a socket's path must be short

    del tmp_path_factory
    with tempfile.TemporaryDirectory(prefix="chg-", dir="/tmp") as name:
        daemon = Daemon(Path(name))
        process = f"pid = 4242;memory_mb = 900;user = {toml(HOSTILE)};name = {toml('x' * 10_000)}"
        holder = subprocess.Popen(["sleep", "3600"])
        daemon.place(
            gpu(0, process).replace("index = 0", f"index = 0\nname = {toml(HOSTILE)}"),
            gpu(1, use(holder.pid, 3000), utilization_percent=70),
            gpu(2, error="GPU_IS_LOST"),
            gpu(3, use(holder.pid, 3000)),
            gpu(4),
        )
        daemon.start()
        until(lambda: daemon.status().count("WITHOUT") == 3)
        daemon.run("reserve", "--gpu-ids", "1", "--note", HOSTILE.replace("\u202e", ""))
        for begin, what in (("+9h", ("--gpu-ids", "1")), ("+11h", ("--gpus", "1"))):
            words = ("reserve", *what, "--begin", begin, "--duration", "1h", "--note", HOSTILE[:-1])
            booked = daemon.run(*words)
            assert booked.returncode == 0, booked.stderr
        daemon.run("reserve", "--gpu-ids", "4", "--duration", "1s")
        daemon.run("admin", "drain", "4", "--reason", "fan is broken")
        waiting = subprocess.Popen(
            ["sh", "-c", 'exec "$@"', "sh", *_wait()], env=daemon.environment, stdout=subprocess.DEVNULL
        )
        until(lambda: daemon.run("queue", "--json").stdout.strip() != "[]")
        with page_of(daemon) as page:
            yield page
        for one in (waiting, holder):
            one.kill()
            one.wait()
        daemon.stop()


def _wait() -> list[str]:
    from support.daemon import COMMAND  # noqa: PLC0415 - one fixture needs it

    return [*COMMAND, "reserve", "--gpus", "4", "--wait"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_axe_finds_nothing(browser: Any, full: Page, scheme: str, width: int) -> None:
    """No page violates a rule of axe, in any theme, on any screen."""
    from axe_playwright_python.sync_playwright import Axe  # noqa: PLC0415 - only where it is installed

    with tab(browser, width, color_scheme=scheme) as shown:
        for path in PAGES:
            shown.goto(full.url + path)
            found = Axe().run(shown)
            assert found.violations_count == 0, f"{path}: {found.generate_report()}"
        shown.goto(full.url + "/violations")
        shown.click("tbody a")
        assert shown.inner_text("h1") == "Violation"
        found = Axe().run(shown)
        assert found.violations_count == 0, found.generate_report()
        assert shown.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [320, NARROW, MIDDLE, WIDE])
@pytest.mark.parametrize("path", PAGES)
def test_nothing_is_wider_than_the_screen(browser: Any, full: Page, width: int, path: str) -> None:
    """No page has to be scrolled sideways."""
    with tab(browser, width) as shown:
        shown.goto(full.url + path)
        wide = shown.evaluate("document.documentElement.scrollWidth")
        assert wide <= width


def hosts_file(folder: Path, *names: str) -> str:
    """Return the address of a page with these hosts; all but the first are away."""
    counts = {"gpus": {"AVAILABLE": 3, "UNRESERVED": 1, "IN_USE": 4}, "waiting": 12, "violations": 7}
    rows = [
        {"host": name, "seen": "2026-12-01T12:00:00Z", "away": "no sign of life" * number, "counts": counts}
        for number, name in enumerate(names)
    ]
    state = State(host="gpu10", at="2026-12-01T12:00:00Z", fleet=True)
    viewer = Viewer(user=None, zone_name="UTC", zone=None, only_mine=False)
    file = folder / "page.html"
    file.write_text(layout.page("/hosts", "Hosts", state, hosts_page(rows, "", ""), viewer), encoding="utf-8")
    return file.as_uri()


@pytest.mark.parametrize("width", [320, NARROW, MIDDLE, WIDE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_table_of_all_hosts_fits(browser: Any, tmp_path: Path, width: int, scheme: str) -> None:
    """The heads of the table do not cover its values, whatever hosts are called; axe finds nothing."""
    from axe_playwright_python.sync_playwright import Axe  # noqa: PLC0415 - only where it is installed

    with tab(browser, width, color_scheme=scheme) as shown:
        shown.goto(hosts_file(tmp_path, "gpu10", "a" * 200, HOSTILE))
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        assert shown.evaluate(COVERED) == []
        found = Axe().run(shown)
        assert found.violations_count == 0, found.generate_report()
        shown.goto(hosts_file(tmp_path, "gpu1010", "gpu1011"))
        assert shown.evaluate(LINES) < 1.5  # A short name is not broken.


def test_hostile_names_are_inert(browser: Any, full: Page) -> None:
    """Names with code in them are shown as text, when the page is loaded and when it changes."""
    with tab(browser) as shown:
        for path in PAGES:
            shown.goto(full.url + path)
            assert shown.locator("img, script:not([src]), main b").count() == 0
        shown.goto(full.url)
        wait(shown, LIVE)
        full.daemon.run("release", "1")
        full.daemon.run("reserve", "--gpu-ids", "1", "--note", "changed " + HOSTILE.replace("\u202e", ""))
        wait(shown, has_text("changed </script><img src=x"))
        assert shown.locator("img, script:not([src])").count() == 0
        assert shown.evaluate("window.harmed") is None
        assert "\u202e" not in shown.inner_text("body")


def test_the_state_is_there_without_javascript(browser: Any, full: Page) -> None:
    """Every card, the queue, bookings and the open violations are in the page as it arrives."""
    with tab(browser, java_script_enabled=False) as shown:
        shown.goto(full.url)
        assert shown.locator("article").count() == 5
        assert shown.locator("#queue-list > li").count() == 1
        assert shown.locator("#bookings-list > li").count() == 2
        assert shown.locator("#violations-list > li").count() >= 2
        assert shown.inner_text("#state").endswith("UTC")
        shown.goto(full.url + "/timeline")
        assert shown.locator("#booked .row svg rect").count() == 2


def test_times_are_those_of_the_reader(browser: Any, full: Page) -> None:
    """The script spells times in the browser's zone; the next page comes in that zone from the server."""
    with tab(browser) as shown:
        shown.goto(full.url + "/report")
        wait(shown, has_text("times in Europe/Berlin"))
        shown.goto(full.url)
        options = "{timeZone: 'Europe/Berlin', hour: '2-digit', minute: '2-digit'}"
        clock = f"new Date(time.dateTime).toLocaleTimeString('en-GB', {options})"
        spelled = f"times => times.map(time => [time.innerText, {clock}])"  # At one moment: the page is live.
        found = shown.locator("time[data-form=at]").evaluate_all(spelled)
        assert found
        for text, expected in found:
            assert text.endswith(expected)


def test_the_keyboard_reaches_everything(browser: Any, full: Page) -> None:
    """The first Tab offers to skip the navigation; each link and each list of processes gets the focus."""
    with tab(browser) as shown:
        shown.goto(full.url)
        wait(shown, LIVE)
        shown.keyboard.press("Tab")
        assert shown.evaluate("document.activeElement.textContent") == "Skip to the content"
        assert shown.locator(".skip").bounding_box()["x"] >= 0
        wanted = shown.locator("a, summary").count()
        seen = []
        for _ in range(wanted + 1):
            seen.append(shown.evaluate("document.activeElement.textContent"))
            shown.keyboard.press("Tab")
        assert len(seen) >= wanted
        assert {"Timeline", "Reload", "1 process"} <= set(seen)


def test_what_is_mine_is_marked_and_filtered(browser: Any, page: Page, lasting_host: Daemon) -> None:
    """The user that the proxy names sees their own GPUs marked, and only those with the filter."""
    lasting_host.run("reserve", "--gpu-ids", "1")
    user = lasting_host.run("status", "--json").stdout.partition('"user": "')[2].partition('"')[0]
    with tab(browser, extra_http_headers={"X-Remote-User": user}) as shown:
        shown.goto(page.url)
        until(lambda: shown.locator("article.mine").count() == 1)
        assert shown.locator("article:visible").count() == 4
        shown.click("text=show only mine")
        assert shown.locator("article:visible").count() == 1
        assert shown.locator("article:visible h3").inner_text().startswith("GPU 1")
    lasting_host.run("release", "1")
