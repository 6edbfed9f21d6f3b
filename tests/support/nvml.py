"""A driver library that misbehaves on demand, and what reads it: the provider, or a whole service."""

import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.daemon import Daemon

from canhazgpu.events.gpu import GpuReading
from canhazgpu.service.providers import nvml
from canhazgpu.service.providers.nvml import NvmlProvider
from canhazgpu.service.providers.provider import Starting

SOURCE = Path(__file__).parent.parent / "fake_nvml" / "nvml.c"
Say = Callable[[str], None]


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the fake driver library, compiled once."""
    folder = tmp_path_factory.mktemp("nvml")
    target = folder / "libnvidia-ml.so.1"
    subprocess.run(["gcc", "-Wall", "-Werror", "-shared", "-fPIC", "-o", target, SOURCE], check=True)
    folder.chmod(0o755)
    return folder


@pytest.fixture
def say(nvml_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Say:
    """Set what the driver answers, at once; a surrogate is a byte that is no UTF-8."""
    answers = tmp_path / "answers"
    monkeypatch.setenv("LD_LIBRARY_PATH", str(nvml_library))
    monkeypatch.setenv("FAKE_NVML", str(answers))

    def set_answers(text: str) -> None:
        new = tmp_path / "answers.new"
        new.write_bytes(text.encode("utf-8", "surrogateescape"))
        new.rename(answers)

    return set_answers


PATIENT = 120.0  # Seconds for a helper that is not meant to hang, on a machine that may be halted.
HANGING = 4.0  # For one that is.


class PatientProvider(NvmlProvider):
    """The provider, asked again while its helper starts: a busy machine takes longer than a scan may."""

    async def read(self) -> tuple[GpuReading, ...]:
        """Return every GPU."""
        while True:
            with suppress(Starting):
                return await super().read()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give helpers more time than a scan has: none of them is meant to hang."""
    monkeypatch.setattr(nvml, "DEADLINE", PATIENT)


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give helpers so much time that one that does not answer in it hangs."""
    monkeypatch.setattr(nvml, "DEADLINE", HANGING)


@pytest.fixture
async def provider(patient: None) -> AsyncIterator[NvmlProvider]:
    """The provider under test."""
    del patient
    made = PatientProvider()
    yield made
    await made.aclose()


@pytest.fixture
def nvml_host(say: Say, folder: Path) -> Iterator[Daemon]:
    """A service that reads its GPUs through NVML: none at first, and not started yet."""
    say("")
    daemon = Daemon(folder)
    config = folder / "config.toml"
    config.write_text(config.read_text().replace('provider = "simulated"', 'provider = "nvml"'))
    yield daemon
    daemon.stop()
