"""Programs that tests need and a host may lack."""

import os
import shutil

import pytest


def need(name: str) -> None:
    """Skip the test where this program is not installed; where all tests have to run, fail."""
    if not shutil.which(name):
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{name} is not installed")
