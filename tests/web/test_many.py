"""The page of a large host: 64 GPUs that change, and 200 requests that wait."""

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.browser import LIVE, tab, wait
from support.daemon import Daemon, until
from support.eventually import slowness
from support.web import Page, page_of
from support.web_lab import cards, fill_queue

pytestmark = [pytest.mark.web, pytest.mark.timeout(300)]
GPUS, WAITING = 64, 200
# Scrolls through the whole page, and returns the time between two frames.
SCROLL = """() => new Promise(resolve => {
  const frames = [], step = document.documentElement.scrollHeight / 120;
  let last = performance.now();
  const draw = now => {
    frames.push(now - last); last = now;
    scrollBy(0, step);
    if (frames.length < 120) requestAnimationFrame(draw); else resolve(frames.slice(1));
  };
  requestAnimationFrame(draw);
})"""


@pytest.fixture
def large(folder: Path) -> Iterator[Page]:
    """The page of such a host."""
    daemon = Daemon(folder, scan="1s")
    daemon.place(*cards(GPUS))
    daemon.start()
    try:
        until(lambda: daemon.status().count("AVAILABLE") >= GPUS // 2)
        fill_queue(daemon, WAITING, GPUS)
        with page_of(daemon) as page:
            yield page
    finally:
        daemon.stop()


def test_a_large_host_scrolls_smoothly_while_it_changes(browser: Any, large: Page) -> None:
    """Every card and every request is there; frames are drawn as usual while all GPUs change."""
    with tab(browser) as shown:
        shown.goto(large.url)
        wait(shown, LIVE)
        assert shown.locator("article").count() == GPUS
        assert shown.locator("#queue-list > li").count() == WAITING
        before = shown.inner_text("#gpu-0-meters")
        large.daemon.place(*cards(GPUS, turn=1))
        frames = shown.evaluate(SCROLL)
        until(lambda: shown.inner_text("#gpu-0-meters") != before)
        assert statistics.median(frames) < 50 * slowness()  # 17 ms on a machine with nothing else to do.
