"""The library for consumers loads little, and needs only the packages of its extra."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

EXTRAS = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
NEEDED = [*EXTRAS["dependencies"], *EXTRAS["optional-dependencies"]["consumer"]]
PARTS = ("cli", "client", "config", "notifiers", "service", "workers")


def loaded(code: str) -> set[str]:
    """Return the modules that are loaded after `code`."""
    words = [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"]
    return set(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split())


def test_the_package_alone_loads_nothing() -> None:
    """Commands import parts of it, and pay for nothing else."""
    modules = loaded("import canhazgpu.events")
    assert not {"redis", "anyio", "msgspec", "structlog", "asyncio"} & modules


def test_the_library_needs_its_extra_only() -> None:
    """It runs where neither the service nor the command line is used."""
    modules = loaded("from canhazgpu.events import *")
    packages = EXTRAS["optional-dependencies"]["service"] + EXTRAS["dependencies"]
    names = {re.split("[<>=]", one)[0] for one in packages} - {re.split("[<>=]", one)[0] for one in NEEDED}
    assert "starlette" in names
    assert not {name for name in names | {"typer"} if name in modules}
    assert not {part for part in PARTS if f"canhazgpu.{part}" in modules}


def test_what_is_public_is_listed_and_found() -> None:
    """Every public name can be imported, and another cannot."""
    code = "import canhazgpu.events as e"
    code += "; assert all(getattr(e, name) for name in e.__all__) and set(e.__all__) <= set(dir(e))"
    assert "redis" in loaded(code)
    failed = subprocess.run(
        [sys.executable, "-c", "from canhazgpu.events import follows"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "cannot import name 'follows'" in failed.stderr
