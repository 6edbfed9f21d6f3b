"""A notebook with a real kernel, in an environment of its own: `make test-notebooks` makes it."""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest
from support.daemon import PATIENCE

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / "build" / "notebooks" / "bin" / "python"
DRIVER = ROOT / "tests" / "notebooks" / "kernel_driver.py"


def need_notebooks() -> None:
    """Skip the test without that environment; where all tests have to run, fail."""
    if not (PYTHON.parents[1] / ".installed").exists():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("`make test-notebooks` installs ipykernel")


@dataclass(frozen=True)
class Output:
    """What a reader sees of a cell."""

    text: str
    error: str


class Notebook:
    """A notebook whose kernel has this environment."""

    def __init__(self, environment: Mapping[str, str], *, within: tuple[str, ...] = ()) -> None:
        """Start the kernel, by a command `within` which it runs if there is one."""
        need_notebooks()
        self._driver = subprocess.Popen(
            [*within, str(PYTHON), str(DRIVER)],
            env={**environment, "JUPYTER_PLATFORM_DIRS": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = int(self._line()["pid"])

    def __enter__(self) -> Self:
        """Load the extension."""
        loaded = self.cell("%load_ext canhazgpu.client.notebook")
        assert loaded == Output("", ""), loaded
        return self

    def __exit__(self, *error: object) -> None:
        """Shut the kernel down."""
        self.close()

    def cell(self, source: str) -> Output:
        """Execute a cell."""
        assert self._driver.stdin
        self._driver.stdin.write(json.dumps(source) + "\n")
        self._driver.stdin.flush()
        return Output(**self._line())

    def close(self) -> None:
        """Shut the kernel down, as Jupyter does."""
        assert self._driver.stdin
        self._driver.stdin.close()
        assert self._driver.stdout
        self._driver.stdout.close()
        self._driver.wait(PATIENCE)

    def kill(self) -> None:
        """Kill the kernel and Jupyter."""
        os.kill(self.pid, 9)
        self._driver.kill()
        self._driver.wait()

    def _line(self) -> dict[str, str]:
        assert self._driver.stdout
        line = self._driver.stdout.readline()
        assert line, "the kernel does not start"
        found: dict[str, str] = json.loads(line)
        return found
