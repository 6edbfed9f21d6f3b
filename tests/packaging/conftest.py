"""The package, built once, and systems that it is installed on."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import debian
from support.programs import need

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def package() -> Path:
    """The Debian package of this tree."""
    for program in ("dpkg-deb", "strip"):
        need(program)
    subprocess.run([ROOT / "packaging" / "deb" / "build", sys.executable], check=True, capture_output=True)
    (built,) = (ROOT / "build" / "deb").glob("*.deb")
    return built


@pytest.fixture(scope="session")
def newer(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same package with a higher version."""
    folder = tmp_path_factory.mktemp("newer")
    subprocess.run(["dpkg-deb", "--raw-extract", package, folder / "root"], check=True)
    control = folder / "root" / "DEBIAN" / "control"
    version = "Version: 0.1.0-1"
    assert version in control.read_text()
    control.write_text(control.read_text().replace(version, "Version: 9.9.9-1"))
    subprocess.run(
        ["dpkg-deb", "--build", folder / "root", folder / "newer.deb"], check=True, capture_output=True
    )
    return folder / "newer.deb"


@pytest.fixture(scope="module")
def machine(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[debian.System]:
    """A booted Debian with the users alice and bob; the package is in /root and not yet installed."""
    system = debian.unpacked(tmp_path_factory.mktemp("booted") / "root", "bookworm", *debian.INIT)
    system.path("/root/canhazgpu.deb").write_bytes(package.read_bytes())
    with debian.booted(system):
        system.shell("for user in alice bob; do useradd --create-home $user; done")
        yield system
