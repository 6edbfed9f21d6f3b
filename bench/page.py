"""`canhazgpu web`: its memory, the size of the page, 200 browsers at a time, and a real browser.

The browser needs Playwright, which `make test-web` installs: `build/web/bin/python -m bench page`.
"""

import gzip
import os
import select
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil

from bench.host import service
from bench.idle import cpu, processes
from canhazgpu.cli.web.history import PERIOD, SAMPLES, History
from canhazgpu.cli.web.pages import layout
from canhazgpu.cli.web.pages.now import State, now_page
from canhazgpu.cli.web.viewer import Viewer
from canhazgpu.client import Client
from canhazgpu.client.reservations import post

BROWSERS, BOOKINGS = 200, 8
EMPTY = "data:text/html,<p>empty"
ROUNDS = 10
SECONDS = 30
FILES = ("static/page.js", "static/icon.svg")  # The style is in the page.
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
APPEARS = """text => { window.seen = new Promise(resolve => {
  const look = () => document.body.textContent.includes(text) && resolve(Date.now());
  new MutationObserver(look).observe(document.body, {subtree: true, childList: true, characterData: true});
}) }"""
SCROLL = """() => new Promise(resolve => {
  const frames = [], step = document.documentElement.scrollHeight / 240;
  let last = performance.now();
  const draw = now => {
    frames.push(now - last); last = now; scrollBy(0, step);
    if (frames.length < 240) requestAnimationFrame(draw); else resolve(frames.slice(1));
  };
  requestAnimationFrame(draw);
})"""


def measure() -> Iterator[str]:
    """Yield a line for each figure, and the load of the machine."""
    for gpus in (8, 64):
        with service(gpus=gpus) as (folder, _), _page(folder) as (url, process):
            yield _size(url, Client(str(folder / "s")), gpus)
            yield from _load(url, process, Client(str(folder / "s")), gpus)
            if find_spec("playwright") and shutil.which("chromium"):
                yield from _in_browser(url, Client(str(folder / "s")), gpus)
            yield f"load {os.getloadavg()[0]:.0f}"


@contextmanager
def _page(folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    command = [sys.executable, "-m", "canhazgpu.cli.main", "--config", str(folder / "config.toml")]
    words = [*command, "web", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout  # noqa: S101 - it is a pipe
        yield process.stdout.readline().split()[-1], psutil.Process(process.pid)
        process.terminate()


def _size(url: str, client: Client, gpus: int) -> str:
    """Return the size of the page after half an hour in which no GPU rested, with the bookings of a day."""
    past, rows = History(), client.status()
    for hours in range(2, 2 + BOOKINGS):
        begin = (datetime.now(UTC) + timedelta(hours=hours)).isoformat(timespec="seconds")
        body = {"begin": begin, "count": 1, "duration": "1h", "note": "a note that says what it is for"}
        post(client, "/v1/bookings", body)
    for turn in range(SAMPLES + 1):
        used = {"utilization_percent": turn * 37 % 101, "memory_used_mb": turn * 3001 % 60_000}
        past.add([{**row, **used} for row in rows], turn * PERIOD)
    state = State(host="gpu1", gpus=rows, bookings=client.get("/v1/bookings"), at="2026-12-01T12:00:00Z")
    viewer = Viewer(user=None, zone_name="UTC", zone=None, only_mine=False)
    shown = layout.page("/", "GPUs now", state, now_page(state, past), viewer, layout.LiveAt("/live", "0"))
    files = [urlopen(url + name).read() for name in FILES]  # noqa: S310 - its own address
    bodies = [shown.encode(), *files]
    whole = sum(map(len, bodies)) / 1000
    compressed = sum(len(gzip.compress(body, 5)) for body in bodies) / 1000
    return f"{gpus} GPUs: the page with style and script {whole:.0f} kB, {compressed:.0f} kB compressed"


def _load(url: str, process: psutil.Process, client: Client, gpus: int) -> Iterator[str]:
    alone = process.memory_info().rss / 1e6
    port = int(url.rstrip("/").rpartition(":")[2])
    links = [socket.create_connection(("127.0.0.1", port)) for _ in range(BROWSERS)]
    for link in links:
        link.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
    _receive(links, b"event: beat")
    delays = [_change(links, client, f"round {number}") for number in range(ROUNDS)]
    began, start = time.monotonic(), cpu(processes(process.pid))
    while (took := time.monotonic() - began) < SECONDS:
        _drain(links, 0.5)
    share = (cpu(processes(process.pid)) - start) / took * 100
    memory = process.memory_info().rss / 1e6
    yield (
        f"{gpus} GPUs, {BROWSERS} browsers: from a request for a reservation until the last browser has it"
        f" p50 {statistics.median(delays):.0f} ms, most {max(delays):.0f} ms; {share:.1f} % of a core while"
        f" nothing happens; {memory:.0f} MB, without browsers {alone:.0f} MB"
    )
    for link in links:
        link.close()


def _change(links: list[socket.socket], client: Client, note: str) -> float:
    began = time.monotonic()
    asked = {"kind": "manual", "count": 1, "duration": "1h", "note": note}
    client.post("/v1/reservations", asked)
    _receive(links, note.encode())
    delay = (time.monotonic() - began) * 1000
    client.post("/v1/reservations/release", {})
    time.sleep(0.5)
    _drain(links, 0.1)
    return delay


def _receive(links: list[socket.socket], words: bytes) -> None:
    """Read until each connection has these words."""
    heard = dict.fromkeys(links, b"")
    while missing := [link for link in links if words not in heard[link]]:
        for link in select.select(missing, [], [], 30)[0]:
            heard[link] += link.recv(262144)


def _drain(links: list[socket.socket], seconds: float) -> None:
    for link in select.select(links, [], [], seconds)[0]:
        link.recv(262144)


def _in_browser(url: str, client: Client, gpus: int) -> Iterator[str]:
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - only where it is installed

    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        empty, paints = ([_first_paint(browser, at) for _ in range(ROUNDS)] for at in (EMPTY, url))
        tab = browser.new_page()
        tab.goto(url)
        while tab.inner_text("#state") != "Live":
            time.sleep(0.05)
        delays = [_seen(tab, client, f"seen {number}") for number in range(ROUNDS)]
        frames = tab.evaluate(SCROLL)
        browser.close()
    slow = statistics.quantiles(frames, n=100)[98]
    paint, delay = statistics.median(paints), statistics.median(delays)
    yield (
        f"{gpus} GPUs, Chromium: first paint p50 {paint:.0f} ms, most {max(paints):.0f} ms,"
        f" of an empty page p50 {statistics.median(empty):.0f} ms;"
        f" from an event until it is on the page p50 {delay:.0f} ms, most {max(delays):.0f} ms;"
        f" a frame while scrolling p50 {statistics.median(frames):.1f} ms, p99 {slow:.1f} ms"
    )


def _first_paint(browser: Any, url: str) -> float:
    context = browser.new_context()  # Nothing is in its cache.
    tab = context.new_page()
    tab.goto(url)
    while (painted := tab.evaluate(PAINTED)) is None:
        time.sleep(0.01)
    context.close()
    return float(painted)


def _seen(tab: Any, client: Client, note: str) -> float:
    tab.evaluate(APPEARS, note)
    asked = {"kind": "manual", "count": 1, "duration": "1h", "note": note}
    client.post("/v1/reservations", asked)
    seen = tab.evaluate("window.seen")
    (event,) = client.lines("/v1/events?type=reservation.created&n=1")
    client.post("/v1/reservations/release", {})
    time.sleep(0.5)
    return float(seen - int(event["stream_id"].partition("-")[0]))
