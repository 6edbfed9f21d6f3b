"""`pip install canhazgpu` without extras: the commands of users work, the others say what to install."""

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import Daemon, until

from canhazgpu.cli.main import SERVICE_MODULES

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MODULES = {"nvidia-ml-py": "pynvml"}  # Imported by another name than it is installed.
MISSING = """\
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
"""
SAID = (
    r"Error: this needs the packages of the service, and \w+ is not installed: "
    r"pip install 'canhazgpu\[service\]'"
)


def _names(entries: list[str]) -> set[str]:
    names = {re.split("[><=;]", entry)[0] for entry in entries}
    return {MODULES.get(name, name) for name in names}


@pytest.fixture(scope="module")
def service() -> Iterator[Daemon]:
    """A service with everything that it needs, for all tests."""
    with tempfile.TemporaryDirectory(prefix="chg-", dir="/tmp") as name:
        daemon = Daemon(Path(name)).start()
        yield daemon
        daemon.stop()


@pytest.fixture
def light(tmp_path: Path, service: Daemon) -> dict[str, str]:
    """The environment of commands that have only what the base installation has."""
    (tmp_path / "sitecustomize.py").write_text(MISSING.format(names=set(SERVICE_MODULES)))
    return {**service.environment, "PYTHONPATH": str(tmp_path)}


def _call(light: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "canhazgpu", *words]
    return subprocess.run(command, env=light, capture_output=True, text=True, check=False)


def test_the_extra_is_what_the_command_line_knows() -> None:
    """A package of the service that is missing is told from an error in the program."""
    assert _names(PROJECT["optional-dependencies"]["service"]) == SERVICE_MODULES
    assert "canhazgpu[service]" in PROJECT["optional-dependencies"]["embedded"]
    assert not _names(PROJECT["dependencies"]) & SERVICE_MODULES


@pytest.mark.parametrize(
    "words",
    [
        "status",
        "status --json",
        "reserve --short",
        "run -- true",
        "queue",
        "violations",
        "silence list",
        "events",
        "deliveries",
        "deadletters list",
        "admin undrain 0",
        "admin init",
        "notify preview",
        "--help",
        "serve --help",
    ],
)
def test_a_user_needs_nothing_more(light: dict[str, str], service: Daemon, words: str) -> None:
    """The commands that ask the service, and every help."""
    done = _call(light, *words.split())
    assert (done.returncode, done.stderr) == (0, "")
    service.run("release")
    until(lambda: "AVAILABLE" in service.status())


def test_the_variables_of_a_reservation_need_nothing_more(light: dict[str, str], service: Daemon) -> None:
    """A command in a shell that has them looks for no settings of the service in them."""
    held = json.loads(_call(light, "reserve", "--json").stdout)
    done = _call({**light, **held["environment"]}, "check")
    service.run("release")
    until(lambda: "AVAILABLE" in service.status())
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "words",
    [
        "serve",
        "worker",
        "doctor",
        "config check",
        "backup x",
        "restore x",
        "log verify",
        "redis migrate --to x",
    ],
)
def test_a_command_of_the_service_says_what_to_install(light: dict[str, str], words: str) -> None:
    """One line, and no traceback."""
    done = _call(light, *words.split())
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(f"{SAID}\n", done.stderr), done.stderr


def test_the_demonstration_says_it_too(light: dict[str, str]) -> None:
    """Its service is a process of its own."""
    done = _call(light, "demo")
    assert done.returncode == 1
    assert re.search(SAID, done.stderr)
    assert "Traceback" not in done.stderr


def test_the_python_client_needs_no_package_at_all(service: Daemon) -> None:
    """In a person's own environment it can stand beside any version of anything."""
    code = """
import sys
from canhazgpu.client import reserve
with reserve(gpus=1) as held:
    assert held.gpus == [0]
foreign = {name for name, one in sys.modules.items() if "site-packages" in str(getattr(one, "__file__", ""))}
assert not {name for name in foreign if not name.startswith(("canhazgpu", "_", "sitecustomize"))}, foreign
"""
    subprocess.run([sys.executable, "-c", code], env={**os.environ, **service.environment}, check=True)


def test_an_error_in_the_program_is_not_taken_for_a_missing_package(
    light: dict[str, str], tmp_path: Path
) -> None:
    """Another module that is missing is a mistake of ours, which a traceback tells best."""
    (tmp_path / "sitecustomize.py").write_text(
        MISSING.format(names={"canhazgpu.service"}).replace('.partition(".")[0]', "")
    )
    done = _call(light, "serve")
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr
