"""Programs of npm, installed by tests/node/install into build/node."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INSTALLED = ROOT / "build" / "node"
MODULES = INSTALLED / "node_modules"


def need_node() -> None:
    """Skip the test where Node or its packages are missing; where all tests have to run, fail."""
    if not shutil.which("node") or not (INSTALLED / ".installed").exists():
        reason = "Node or its packages are not there: make test-node installs the packages"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


def node(*words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run a program with Node."""
    environment = {**os.environ, "REDOCLY_TELEMETRY": "off", **variables}
    return subprocess.run(
        ["node", *words], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
