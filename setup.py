"""Finds the packages below the folders that pyproject.toml maps to `canhazgpu.…`; all else stands there."""

import tomllib
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
FOLDERS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"]

setup(
    packages=[
        "canhazgpu",  # A namespace: program/ has what runs it, and no __init__.py.
        *(
            ".".join((package, *path.parent.relative_to(ROOT / folder).parts))
            for package, folder in FOLDERS.items()
            for path in sorted((ROOT / folder).rglob("__init__.py"))
        ),
    ]
)
