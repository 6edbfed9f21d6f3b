"""An AMD SMI library that misbehaves on demand, and what reads it through the real Python package."""

import importlib.util
import re
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.daemon import Daemon

from canhazgpu.events.gpu import GpuReading
from canhazgpu.service.providers.amd import AmdProvider
from canhazgpu.service.providers.provider import Starting

SOURCE = Path(__file__).parent.parent / "fake_amdsmi" / "amdsmi.c"
FUNCTION = re.compile(r"_libraries\['libamd_smi\.so'\]\.(\w+)")
NOT_SUPPORTED = 2
Say = Callable[[str], None]


def compile_library(folder: Path, *, without: str = "") -> None:
    """Make libamd_smi.so with every function that the Python package looks for, except `without`."""
    package = importlib.util.find_spec("amdsmi")
    assert package is not None
    assert package.origin is not None
    wrapper = Path(package.origin).with_name("amdsmi_wrapper.py").read_text(encoding="utf-8")
    names = sorted(set(FUNCTION.findall(wrapper)) - {without})
    rest = folder / "rest.c"
    weak = "__attribute__((weak))"
    rest.write_text("".join(f"{weak} int {name}(void) {{ return {NOT_SUPPORTED}; }}\n" for name in names))
    target = folder / "libamd_smi.so"
    renamed = [f"-D{without}=missing"] if without else []
    flags = ["-Wall", "-Werror", "-shared", "-fPIC", *renamed]
    subprocess.run(["gcc", *flags, "-o", target, SOURCE, rest], check=True)


@pytest.fixture(scope="session")
def amd_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the fake library, compiled once."""
    folder = tmp_path_factory.mktemp("amdsmi")
    compile_library(folder)
    folder.chmod(0o755)
    return folder


@pytest.fixture
def say_amd(amd_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Say:
    """Set what the library answers, at once."""
    answers = tmp_path / "amd-answers"
    monkeypatch.setenv("LD_LIBRARY_PATH", str(amd_library))
    monkeypatch.setenv("FAKE_AMDSMI", str(answers))

    def set_answers(text: str) -> None:
        new = tmp_path / "amd-answers.new"
        new.write_text(text, encoding="utf-8")
        new.rename(answers)

    return set_answers


class PatientAmdProvider(AmdProvider):
    """The provider, asked again while its helper starts: a busy machine takes longer than a scan may."""

    async def read(self) -> tuple[GpuReading, ...]:
        """Return every GPU."""
        while True:
            with suppress(Starting):
                return await super().read()


@pytest.fixture
async def amd_provider(patient: None) -> AsyncIterator[AmdProvider]:
    """The provider under test."""
    del patient
    made = PatientAmdProvider()
    yield made
    await made.aclose()


@pytest.fixture
def amd_host(say_amd: Say, folder: Path) -> Iterator[Daemon]:
    """A service that reads its GPUs through AMD SMI: none at first, and not started yet."""
    say_amd("")
    daemon = Daemon(folder)
    config = folder / "config.toml"
    config.write_text(config.read_text().replace('provider = "simulated"', 'provider = "amdsmi"'))
    yield daemon
    daemon.stop()
