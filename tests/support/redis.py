"""Where the tests' redis-server is."""

import os
import shutil
import sys
from pathlib import Path

import pytest


def redis_binary() -> str:
    """Return the redis-server to test with; without one, skip on a laptop and fail on CI."""
    beside = Path(sys.executable).parent / "redis-server"
    found = str(beside) if beside.exists() else shutil.which("redis-server")
    if found:
        return found
    if os.environ.get("CI"):
        pytest.fail("no redis-server, and tests may not be skipped here")
    pytest.skip("no redis-server")
