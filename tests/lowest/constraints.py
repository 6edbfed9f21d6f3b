"""Prints the lowest version of each dependency that pyproject.toml allows, as constraints for pip."""

import re
import tomllib
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
FLOOR = re.compile(r"([\w-]+)>=([\w.]+)")


def constraints() -> list[str]:
    """Return a line for each dependency that runs with the product; tools of development may be new."""
    extras = PROJECT["optional-dependencies"]
    names = ("service", "embedded", "kubernetes", "amd", "exporter")
    wanted = [*PROJECT["dependencies"], *(entry for name in names for entry in extras[name])]
    wanted.remove("canhazgpu[service]")
    floors = [FLOOR.match(entry) for entry in wanted]
    assert all(floors), f"a dependency without a lowest version: {wanted}"
    return [f"{floor[1]}=={floor[2]}" for floor in floors if floor]


if __name__ == "__main__":
    print("\n".join(constraints()))  # noqa: T201 - what it is for
