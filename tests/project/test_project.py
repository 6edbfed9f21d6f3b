"""The code, its documents and its packaging agree."""

import ast
import functools
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from canhazgpu.cli.commands import COMMANDS, build
from canhazgpu.config.example import example
from canhazgpu.config.load import load, options
from canhazgpu.events.envelope import TYPES
from canhazgpu.events.redis_client.keys import Keys
from canhazgpu.events.schemas import document

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = PROJECT["tool"]["setuptools"]["package-dir"]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
LONGEST_FILE = 300
MOST_MODULES = 15


def _tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).exists()]


def _folders() -> set[Path]:
    """Return every folder of the product that has a module."""
    return {path.parent for path in _tracked(*(f"{folder}/*.py" for folder in PACKAGES.values()))}


def test_every_folder_of_code_is_a_package_that_is_installed() -> None:
    """Each folder with code is an installed package."""
    folders = {path.relative_to(ROOT).parts[0] for path in _tracked("*/*.py")}
    assert folders - {"tests", "bench", "docs"} == set(PACKAGES.values())
    assert {folder for folder in _folders() if not (folder / "__init__.py").exists()} == {ROOT / "program"}
    assert all((ROOT / folder / "py.typed").exists() for folder in PACKAGES.values())


def test_no_folder_has_more_than_15_modules() -> None:
    """A folder of the product has at most 15 modules."""
    counts = {str(folder.relative_to(ROOT)): len(list(folder.glob("*.py"))) for folder in _folders()}
    assert {folder: count for folder, count in counts.items() if count > MOST_MODULES} == {}


def test_each_sub_package_says_what_it_is_and_imports_nothing() -> None:
    """A sub-package's docstring says what comes in, what goes out, what it never does and where to begin."""
    for folder in _folders() - {ROOT / name for name in PACKAGES.values()}:
        tree = ast.parse((folder / "__init__.py").read_text())
        said = ast.get_docstring(tree) or ""
        assert len(tree.body) == 1, f"{folder}: to import a package costs nothing"
        assert all(word in said for word in ("In come", "out go", "never")), folder
        face = re.search(r"Start\s+with\s+`(\w+)`", said)
        assert face, folder
        assert (folder / f"{face[1]}.py").exists(), folder


@pytest.mark.slow
def test_the_wheel_holds_everything_and_imports(tmp_path: Path) -> None:
    """The wheel contains every module, script and data file, and every module can be imported from it."""
    source = tmp_path / "source"  # Of its own: what an earlier build left behind would be in the wheel.
    unwanted = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, source, ignore=unwanted)
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(tmp_path), str(source)],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
        packed.extractall(tmp_path / "installed")
    for package, folder in PACKAGES.items():
        for path in _tracked(f"{folder}/*.py", f"{folder}/*.lua"):
            assert f"{package.replace('.', '/')}/{path.relative_to(ROOT / folder)}" in names
    assert {"canhazgpu/config/example.toml", "canhazgpu/config/canhazgpu.service"} <= names
    assert "canhazgpu/cli/kubernetes/proto/kubelet.binpb" in names
    assert "canhazgpu/config/monitoring/canhazgpu.dashboard.json" in names
    assert {name.partition("/")[0] for name in names} == {"canhazgpu", f"canhazgpu-{_version()}.dist-info"}
    modules = [
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in sorted(names)
        if name.endswith(".py")
    ]
    code = """
import importlib, sys
sys.path.insert(0, sys.argv[1])
for name in sys.argv[2:]:
    module = importlib.import_module(name)
    assert sys.argv[1] in module.__file__, module
"""
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "installed"), *modules], check=True, cwd=tmp_path
    )


def _version() -> str:
    return str(PROJECT["project"]["version"])


def test_no_file_is_longer_than_300_lines() -> None:
    """No module and no script is longer than 300 lines."""
    long = {str(path): len(path.read_text().splitlines()) for path in _tracked("*.py", "*.lua")}
    assert {path: lines for path, lines in long.items() if lines > LONGEST_FILE} == {}


def test_each_dependency_has_its_reason() -> None:
    """docs/decisions gives a reason for each dependency."""
    said = "\n".join(path.read_text() for path in ROOT.glob("docs/decisions/*.md"))
    extras = PROJECT["project"]["optional-dependencies"].values()
    wanted = [*PROJECT["project"]["dependencies"], *(name for extra in extras for name in extra)]
    names = {re.split(r"[\[>=<]", entry)[0] for entry in wanted} - {"canhazgpu"}
    assert {name for name in names if f"**{name}**" not in said} == set()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_name_what_exists(path: Path) -> None:
    """Paths, links, commands and settings that a document names exist."""
    text = path.read_text()
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (path.parent / link).exists(), link
    folders = "|".join([*PACKAGES.values(), "docs", "tests", "bench"])
    for name in re.findall(rf"`((?:{folders})/[\w./-]*)`", text):
        assert (ROOT / name).exists(), name
    commands = _commands()
    for words in re.findall(r"(?:`|^    (?:\$ )?)(?:canhazgpu|chg) ((?:[a-z]+ ?)+)", text, re.MULTILINE):
        first = words.split()[:2]
        assert first[0] in commands, words
        assert not commands[first[0]] or len(first) == 1 or first[1] in commands[first[0]], words
    for target in re.findall(r"`make (\w+)`|^    make (\w+)", text, re.MULTILINE):
        assert re.search(rf"^{target[0] or target[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    keys = {option.key for option in options()}
    sections = {key.partition(".")[0] for key in keys if "." in key} - {"redis"}
    for key in re.findall(rf"`((?:{'|'.join(sections)})\.[a-z_.]+)`", text):
        assert key in keys or any(other.startswith(key + ".") for other in keys), key


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_name_tests_that_exist(path: Path) -> None:
    """Tests that a document names exist."""
    for file, function in re.findall(r"\b(tests/[\w/]+\.py)(?:::(\w+))?", path.read_text()):
        assert (ROOT / file).exists(), file
        assert not function or function in _functions(file), f"{file}::{function}"


@functools.cache
def _functions(file: str) -> set[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(node, kinds)}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_headings(path: Path) -> None:
    """The anchor of a link is a heading of the page, spelled as on GitHub."""
    for page, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", path.read_text()):
        target = path.parent / page if page else path
        headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
        slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert anchor in slugs, (page, anchor)


def _commands() -> dict[str, set[str]]:
    app = build(*COMMANDS)
    found: dict[str, set[str]] = {command.name or "": set() for command in app.registered_commands}
    for group in app.registered_groups:
        inner = group.typer_instance
        assert inner is not None
        found[str(group.name)] = {str(command.name) for command in inner.registered_commands}
    return found


def test_the_table_of_keys_is_complete() -> None:
    """docs/architecture.md lists every Redis key of events/redis_client/keys.py."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    keys = Keys("HOST")
    names = [name for attribute, name in vars(keys).items() if attribute not in ("host", "prefix")]
    names += [keys.gpu(0).replace("gpu:0", "gpu:N")]
    names += [make("CHANNEL") for make in (keys.retries, keys.progress, keys.delivered)]
    assert {name for name in names if f"`{name.removeprefix(keys.prefix)}`" not in text} == set()


def test_keys_are_spelled_in_one_file() -> None:
    """Only events/redis_client/keys.py contains the prefix of the Redis keys."""
    spelled = [
        path
        for path in _tracked(*(f"{folder}/*.py" for folder in PACKAGES.values()))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "canhazgpu:{" in node.value
    ]
    assert {str(path.relative_to(ROOT)) for path in spelled} <= {"events/redis_client/keys.py"}


def test_what_is_generated_is_up_to_date() -> None:
    """The example settings and the AsyncAPI document are those that the code generates."""
    assert (ROOT / "config" / "example.toml").read_text() == example()
    assert (ROOT / "docs" / "asyncapi.json").read_text() == document()


def test_the_example_settings_are_good_as_they_stand_and_uncommented(tmp_path: Path) -> None:
    """The example settings load, and mean the same with every key uncommented."""
    plain = load(str(ROOT / "config" / "example.toml"), {}).settings
    file = tmp_path / "config.toml"
    file.write_text(re.sub(r"^# (\w+ = )", r"\1", example(), flags=re.MULTILINE))
    loaded = load(str(file), {})
    assert set(loaded.origins.values()) == {str(file)}
    assert loaded.settings.notify == plain.notify
    assert loaded.settings.notices == plain.notices


def test_the_events_are_documented() -> None:
    """docs/events.md has a row for every type of event."""
    text = (ROOT / "docs" / "events.md").read_text()
    assert {name for name in TYPES if f"| `{name}` |" not in text} == set()
