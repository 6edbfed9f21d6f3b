"""Makes the pictures of docs/web.md: `make screenshots`. The lab in them is made up."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from threading import Thread
from typing import Any

import uvicorn
from support.browser import LIVE, MIDDLE, NARROW, WIDE, chromium, tab, wait
from support.eventually import until
from support.made_up_fleet import ROUTES
from support.made_up_lab import application

from canhazgpu.cli.web import history

MOST = 150_000  # Bytes of a picture.
PICTURES = (
    ("now", "/", WIDE, "light"),
    ("now-dark", "/", WIDE, "dark"),
    ("now-768", "/", MIDDLE, "light"),
    ("now-375", "/", NARROW, "light"),
    ("now-375-dark", "/", NARROW, "dark"),
    ("hosts", "/hosts", WIDE, "light"),
    ("hosts-768-dark", "/hosts", MIDDLE, "dark"),
    ("hosts-375", "/hosts", NARROW, "light"),
    ("timeline", "/timeline?span=week", WIDE, "light"),
    ("timeline-375-dark", "/timeline?span=week", NARROW, "dark"),
    ("report", "/report", WIDE, "light"),
    ("report-dark", "/report", WIDE, "dark"),
)
# A page with a past: half an hour passes in a few seconds.
QUICK = """\
import sys
from canhazgpu.cli.web import feed, history
history.PERIOD, feed.UNWATCHED = 0.05, 0.05
from canhazgpu.cli.main import main
sys.argv = ["canhazgpu", "web", "--listen", "127.0.0.1:0"]
main()
"""


def main(folder: Path) -> None:
    """Write all pictures into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="chg-", dir="/tmp") as name:
        path = f"{name}/s"
        api = uvicorn.Server(uvicorn.Config(application(*ROUTES), uds=path, log_config=None, lifespan="off"))
        api.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        thread = Thread(target=api.run, daemon=True)
        thread.start()
        until(Path(path).exists)
        with _page(path) as process, chromium() as browser:
            assert process.stdout
            url = process.stdout.readline().split()[-1].rstrip("/")
            time.sleep(history.SAMPLES * 0.07)  # The history is full then.
            for name_, where, width, scheme in PICTURES:
                _take(browser, url + where, width, scheme, folder / f"{name_}.png")
            process.terminate()
        api.should_exit = True
        thread.join(10)


def _page(path: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "CANHAZGPU_SOCKET": path}
    return subprocess.Popen([sys.executable, "-c", QUICK], env=environment, stdout=subprocess.PIPE, text=True)


def _take(browser: Any, url: str, width: int, scheme: str, file: Path) -> None:
    with tab(browser, width, color_scheme=scheme) as shown:
        shown.goto(url)
        shown.wait_for_load_state("load")
        if shown.get_attribute("body", "data-live"):
            wait(shown, LIVE)
        shown.screenshot(path=file)
    size = file.stat().st_size
    assert size <= MOST, f"{file}: {size} bytes"
    sys.stdout.write(f"{file}: {size // 1000} kB\n")


main(Path(sys.argv[1]))
