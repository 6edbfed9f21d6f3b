"""The modules that the commands load which start often, from an installed wheel: most of their time."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import Daemon, gpu, until

from canhazgpu.cli.recognition.known_options import COMMANDS

ROOT = Path(__file__).parents[2]
LOADED = re.compile(r"import time: +\d+ \| +\d+ \| +(\S+)")
SCRIPT = {"re", "enum", "types", "functools", "collections", "keyword", "operator", "reprlib", "copyreg"}
OF_SCRIPT = re.compile(
    rf"re\..*|_?({'|'.join(SCRIPT)})|itertools|_sre"
)  # Of the script that an old pip writes.
EVERY = {
    "",
    ".cli",
    ".cli.exit_codes",
    ".cli.recognition",
    ".cli.recognition.known_options",
    ".cli.main",
    ".cli.output",
    ".cli.recognition.recognise",
    ".cli.status_lines",
    ".client",
    ".client.connection",
    ".client.plain_json",
    ".client.plain_settings",
    ".client.unix_http",
    ".events",
    ".events.default_paths",
    ".events.durations",
    ".events.sanitize",
    "__future__",
    "_json",
    "_socket",
}
RESERVATION = {
    ".cli.arguments",
    ".cli.reservations",
    ".cli.syntax",
    ".cli.syntax.gpu_list",
    ".cli.values",
    ".client.reservations",
    ".events.spelling",
    ".events.spelling.gpu_numbers",
}
SHELL = {".cli.shells"}
OF_ROOT = {"_ctypes", "_struct", "ctypes", "ctypes._endian", "struct"}  # For prctl(2).
SHOULD = {
    "status": {".cli.status", ".cli.status_options"},
    "run": {".cli.reservations.run", ".cli.reservations.executables", "errno", *RESERVATION},
    "reserve": {".cli.reservations.reserve", *RESERVATION, *SHELL},
    "extend": {".cli.reservations.reserve", *RESERVATION, *SHELL},
    "release": {".cli.reservations.reserve", *RESERVATION, *SHELL},
    "env": {".cli.reservations.env", *RESERVATION, *SHELL},
    "check": {
        ".cli.reservations",
        ".cli.reservations.check",
        ".client.visible_gpus",
        ".events.spelling",
        ".events.spelling.cuda_visible_devices",
        ".events.spelling.gpu_numbers",
        ".events.spelling.gpu_ranges",
    },
    "queue": {
        ".cli.display",
        ".cli.display.booking_table",
        ".cli.reservations",
        ".cli.reservations.queue_listing",
    },
    "cancel": {".cli.reservations.cancel", *RESERVATION},
}
TABLE = {
    "--long": {
        ".cli.display",
        ".cli.display.booking_table",
        ".cli.display.gpu_filter",
        ".cli.display.gpu_table",
        ".cli.display.tables",
        ".cli.display.terminal",
        ".cli.local_times",
        ".events.spelling",
        ".events.spelling.gpu_numbers",
        ".events.timestamps",
        "_datetime",
        "datetime",
        "math",
        "unicodedata",  # How wide a bar is.
    },
    "--sort": {
        ".cli.display",
        ".cli.display.gpu_filter",
        ".events.spelling",
        ".events.spelling.gpu_numbers",
    },
}
HELD = ("extend", "env", "release", "check")  # They need reservations.
LINES = [
    "status",
    "status --json",
    "status --no-color",
    "status --long",
    "status --sort memory",
    "status --long --sort user --free",
    "reserve --gpus 1 --duration 4h --note ours",
    "reserve --gpu-ids 1 --wait 30m --json",
    "env --shell fish",
    "check",
    "check --short",
    "check --json",
    "extend --duration 2h --gpu-ids 1",
    "extend 1 2h",
    "queue",
    "queue --json",
    "cancel",
    "run --gpus 1 --wait -- true",
    "release --gpu-ids 1",
    "release 0-1",
    "release --all",
]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder for the module."""
    with tempfile.TemporaryDirectory(prefix="chg-", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def python(folder: Path) -> Path:
    """The Python of an environment that has only the wheel, and not even the framework."""
    source = folder / "source"
    unwanted = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, source, ignore=unwanted)
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    (wheel,) = folder.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-index", "--no-deps"]
    pip += ["--disable-pip-version-check", str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    return python


@pytest.fixture(scope="module")
def daemon(folder: Path) -> Iterator[Daemon]:
    """A service for the module's tests."""
    daemon = Daemon(folder)
    daemon.place(gpu(0), gpu(1))
    daemon.start()
    yield daemon
    daemon.stop()


@pytest.fixture(scope="module")
def of_nothing(python: Path, daemon: Daemon) -> set[str]:
    """What an empty program loads."""
    return _loaded(python, {**os.environ, **daemon.environment}, "-c", "pass")


def _prepare(daemon: Daemon, command: str) -> None:
    """Release all GPUs; reserve both for a command that needs some."""
    assert daemon.run("release", "--all").returncode == 0
    until(lambda: daemon.status().count("AVAILABLE") == 2)  # A run that has ended is released a moment later.
    if command in HELD:
        assert daemon.run("reserve", "--gpu-ids", "0-1").returncode == 0


def _loaded(python: Path, environment: dict[str, str], *words: str) -> set[str]:
    """Return what a program loads."""
    command = [str(python), "-X", "importtime", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(LOADED.findall(done.stderr))


@pytest.mark.slow
@pytest.mark.parametrize("line", LINES)
def test_a_command_that_starts_often_loads_only_these(
    python: Path, daemon: Daemon, of_nothing: set[str], line: str
) -> None:
    """No framework, no `re`, no `enum`, no `typing`: a module more is a decision, and has its line here."""
    words = line.split(" ")
    environment = {**os.environ, **daemon.environment}
    canhazgpu = str(python.with_name("canhazgpu"))
    _prepare(daemon, words[0])
    found = _loaded(python, environment, canhazgpu, *words) - of_nothing
    found = {name for name in found if not OF_SCRIPT.fullmatch(name)}
    table = set().union(*(TABLE.get(word, set()) for word in words))
    may = EVERY | SHOULD[words[0]] | table | (OF_ROOT if words[0] == "run" and os.geteuid() == 0 else set())
    named = {f"canhazgpu{name}" if name[:1] in ("", ".") else name for name in may}
    assert found <= named
    assert named - found <= {"canhazgpu.cli.values"}


def test_every_command_has_its_list() -> None:
    """A command that is to start quickly is held to it. A service only saves the memory of the framework."""
    assert set(SHOULD) == set(COMMANDS) - {"serve"} == {line.partition(" ")[0] for line in LINES}
