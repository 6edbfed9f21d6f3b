"""One browser for all tests, and the page of a service on four GPUs."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest
from support.browser import PROGRAM, chromium
from support.daemon import Daemon
from support.programs import need
from support.web import Page, page_of


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium; without it, or without Playwright, the tests are skipped with the reason."""
    if find_spec("playwright") is None:
        pytest.skip("playwright is not installed: `make test-web` installs it")
    need(PROGRAM)
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def page(lasting_host: Daemon) -> Iterator[Page]:
    """The page of a host that tests leave as it was."""
    with page_of(lasting_host, CANHAZGPU_WEB_USER_HEADER="X-Remote-User") as page:
        yield page
