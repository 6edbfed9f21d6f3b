"""GPU providers from other packages: installed, loaded, run by the service, or refused on one line."""

import importlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.daemon import Daemon, until

from canhazgpu.config.settings import Gpus, Settings
from canhazgpu.service.providers.provider import ProviderError, ProviderFailed
from canhazgpu.service.providers.registry import open_provider

PAGE = Path(__file__).parents[2] / "docs" / "integrators.md"
GOOD = """
from canhazgpu.events.gpu import GpuReading

class Provider:
    def __init__(self, options, settings): self.options, self.settings = options, settings
    async def read(self): return ()
    async def aclose(self): pass
"""
Package = Callable[..., Settings]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Package]:
    """Install a package with one module and one entry point; return settings that select it."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(module: str, point: str = "site_gpus:Provider", number: int = 0) -> Settings:
        (tmp_path / "site_gpus.py").write_text(module)
        facts = tmp_path / f"site_gpus{number}-1.0.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: site-gpus{number}\nVersion: 1.0\n")
        (facts / "entry_points.txt").write_text(f"[canhazgpu.providers]\nsite = {point}\n")
        importlib.invalidate_caches()
        return Settings(gpus=Gpus(provider="site", options={"key": "value"}))

    yield make
    sys.modules.pop("site_gpus", None)


@pytest.fixture(scope="module")
def amdgpu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example of the page, installed with pip into a folder."""
    source, installed = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    section = PAGE.read_text().partition("### A provider of your own")[2]
    files = re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert [name for name, _ in files] == ["pyproject.toml", "canhazgpu_amdgpu.py"]
    for name, text in files:
        (source / name).write_text(text)
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-index"]
    options = ["--no-deps", "--no-build-isolation", "--root-user-action=ignore", "--target", str(installed)]
    subprocess.run([*pip, *options, str(source)], check=True)
    return installed


def select(host: Daemon, provider: str) -> None:
    """Change the provider in the settings of a host."""
    config = host.folder / "config.toml"
    config.write_text(config.read_text().replace('provider = "simulated"', provider))


def card(devices: Path, number: int, used_mb: int) -> None:
    """Write one card as amdgpu has it in sysfs."""
    folder = devices / f"0000:0{number}:00.0"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "unique_id").write_text(f"17a2{number}\n")
    (folder / "mem_info_vram_total").write_text(f"{32 << 30}\n")
    (folder / "mem_info_vram_used").write_text(f"{used_mb << 20}\n")


def test_the_service_runs_on_the_provider_of_the_page(
    folder: Path, amdgpu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example of docs/integrators.md reads GPUs, reports use and failures, and doctor checks it."""
    devices = folder / "devices"
    card(devices, 1, 20)
    card(devices, 2, 20)
    monkeypatch.setenv("PYTHONPATH", str(amdgpu))
    host = Daemon(folder)
    select(host, f'provider = "amdgpu"\noptions = {{ devices = "{devices}" }}')
    assert host.run("config", "check").stdout.startswith("Good: ")
    assert "amdgpu: 2 GPUs" in host.run("doctor").stdout
    host.start()
    try:
        until(lambda: host.status().count("AVAILABLE") == 2)
        assert host.run("reserve", "--gpu-ids", "0").returncode == 0
        card(devices, 2, 4096)
        until(lambda: "GPU 1: IN USE WITHOUT RESERVATION" in host.status())
        devices.rename(folder / "away")
        until(lambda: "the driver amdgpu is not loaded" in host.status())
        (folder / "away").rename(devices)
        until(lambda: "UNKNOWN" not in host.status())
    finally:
        host.stop()


def test_an_unknown_provider_is_refused(folder: Path, amdgpu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command that reads the settings lists the providers of this host, those of packages too."""
    monkeypatch.setenv("PYTHONPATH", str(amdgpu))
    host = Daemon(folder)
    select(host, 'provider = "nvlm"')
    for command in (["serve"], ["config", "check"]):
        done = host.run(*command)
        assert done.returncode == 2
        assert done.stderr == (
            f"Error: {folder}/config.toml: gpus.provider:"
            " expected one of auto, nvml, amdsmi, nvml+amdsmi, simulated, amdgpu, not 'nvlm'\n"
        )


def test_a_provider_that_does_not_load_is_named(
    folder: Path, package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`serve`, `config check` and `doctor` say in one line which provider fails, and why."""
    package("import no_such_driver")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    host = Daemon(folder)
    select(host, 'provider = "site"')
    why = "gpus.provider: site: ModuleNotFoundError: No module named 'no_such_driver'"
    check = host.run("config", "check")
    assert (check.returncode, check.stderr) == (2, f"Error: {why}\n")
    assert why in host.run("doctor").stdout
    serve = host.run("serve")
    assert serve.returncode == 1
    assert serve.stderr.splitlines()[-1] == f"Error: {why}"
    assert "Traceback" not in serve.stderr


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (
            GOOD.replace("Provider:", "Other:"),
            "AttributeError: module 'site_gpus' has no",
        ),
        (GOOD.replace("options, settings)", "options)"), "TypeError: "),
        (GOOD.replace("async def aclose", "def aclose"), "it has no `async def aclose`"),
        ("Provider = lambda options, settings: None", "it has no `async def read`"),
        ("raise OSError('a\\nb\\x1b[2J')", "OSError: a b\\x1b[2J"),
    ],
)
def test_a_broken_provider_is_refused(package: Package, module: str, reason: str) -> None:
    """The reason is on one line that names the provider, and is safe to print."""
    with pytest.raises(ProviderFailed) as failed:
        open_provider(package(module))
    assert str(failed.value).startswith(f"gpus.provider: site: {reason}")
    assert str(failed.value).isprintable()


def test_a_name_that_two_packages_offer_is_refused(package: Package) -> None:
    """The service does not guess which of two providers was meant."""
    package(GOOD)
    with pytest.raises(ProviderFailed, match="several packages have it: site_gpus:Other, site_gpus:Provider"):
        open_provider(package(GOOD, point="site_gpus:Other", number=1))


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise ValueError('no\\nluck')", "the provider site failed: ValueError: no luck"),
        ("return 5", "the provider site failed: ValidationError: "),
        ("return [1]", "the provider site failed: ValidationError: "),
        (
            "return [GpuReading(index=0, uuid='A', name='a')] * 2",
            "the provider site failed: two GPUs have the same index",
        ),
        ("raise TimeoutError", "no answer from the driver in 2 s"),
    ],
)
async def test_an_error_of_a_provider_is_a_failed_reading(package: Package, body: str, reason: str) -> None:
    """Whatever a provider raises or returns, the scanner gets a ProviderError or good readings."""
    provider = open_provider(package(GOOD.replace("return ()", body)))
    with pytest.raises(ProviderError) as failed:
        await provider.read()
    assert str(failed.value).startswith(reason)
    assert str(failed.value).isprintable()
    await provider.aclose()


@pytest.mark.anyio
async def test_readings_are_in_order(package: Package) -> None:
    """The scanner gets the GPUs by index, in whatever order a provider returns them."""
    body = "return [GpuReading(index=n, uuid=f'{n}', name=self.options['key']) for n in (1, 0)]"
    readings = await open_provider(package(GOOD.replace("return ()", body))).read()
    assert [(one.index, one.name) for one in readings] == [(0, "value"), (1, "value")]
