"""Chromium with Playwright, for the tests of the page and for its pictures."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from support.eventually import until

PROGRAM = "chromium"
# A tab that nobody sees is drawn all the same. Root has no sandbox.
FLAGS = [
    "--disable-dev-shm-usage",
    "--disable-background-timer-throttling",
    *(["--no-sandbox"] * (os.geteuid() == 0)),
]
NARROW, MIDDLE, WIDE = 375, 768, 1440
ZONE = "Europe/Berlin"
LIVE = "document.getElementById('state').textContent === 'Live'"


@contextmanager
def chromium() -> Iterator[Any]:
    """Run the browser; its tabs are those of contexts that callers make."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - only where it is installed

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which(PROGRAM), args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def tab(browser: Any, width: int = WIDE, **options: Any) -> Iterator[Any]:
    """Open a tab of its own; whatever goes wrong in it is an error here."""
    context = browser.new_context(viewport={"width": width, "height": 900}, timezone_id=ZONE, **options)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if "Content Security" in said.text else None)

    def dismiss(dialog: Any) -> None:
        wrong.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    page.on("dialog", dismiss)
    try:
        yield page
    finally:
        context.close()
    assert wrong == []


def wait(shown: Any, expression: str, seconds: float = 30) -> None:
    """Wait until an expression is true; the page does not let Playwright wait for it by itself."""
    until(lambda: shown.evaluate(expression), seconds, f"for {expression}")


def has_text(text: str) -> str:
    """Return the expression that a text is on the page."""
    return f"document.body.textContent.includes({json.dumps(text)})"
