"""Installs a checkout as users do: a wheel in a virtual environment of its own.

An editable installation has an import hook, which takes as long as Python itself to start.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent.parent
UNWANTED = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__")


@contextmanager
def installed(checkout: Path = HERE) -> Iterator[Path]:
    """Yield the folder of the programs of an environment that has this checkout and the newest pip."""
    with tempfile.TemporaryDirectory(prefix="chg-bench-", dir="/tmp") as name:
        folder = Path(name)
        source, programs = folder / "source", folder / "venv" / "bin"
        # Elsewhere: what an earlier build left behind would be in the wheel.
        shutil.copytree(checkout, source, ignore=UNWANTED)
        wheel = ["-m", "build", "--no-isolation", "--wheel", "--outdir", name, str(source)]
        subprocess.run([sys.executable, *wheel], check=True, capture_output=True)
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        pip = [str(programs / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        # Before 25.1, pip writes a script that imports `re`.
        subprocess.run([*pip, "--upgrade", "pip"], check=False, capture_output=True)
        subprocess.run([*pip, *map(str, folder.glob("*.whl"))], check=True, capture_output=True)
        yield programs
