"""`canhazgpu doctor` on containers: whether Docker and Podman ask the service before they start one."""

import json
import shutil
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from canhazgpu.cli.doctor import container_checks
from canhazgpu.cli.operations import container_files
from canhazgpu.config.integrations.containers import Containers
from canhazgpu.config.settings import Settings


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with Docker and Podman, whose settings are in this folder."""
    monkeypatch.delenv("CANHAZGPU_CONFIG", raising=False)
    monkeypatch.setattr(container_checks, "DAEMON_JSON", str(tmp_path / "daemon.json"))
    monkeypatch.setattr(container_checks, "HOOKS", (str(tmp_path / "none"), str(tmp_path)))
    monkeypatch.setattr(shutil, "which", lambda name: f"/x/{name}")
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    program = tmp_path / "canhazgpu"
    program.touch(mode=0o755)
    return tmp_path


def found(mode: Any = "enforce") -> list[tuple[str, str]]:
    """Return the state and the text of each finding."""
    settings = Settings(containers=Containers(mode=mode))
    return [
        (state, f"{what} {remedy}".strip()) for state, what, remedy in container_checks.containers(settings)
    ]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("mode", "state"), [("enforce", "fail"), ("warn", "ok")])
def test_what_is_not_installed_is_named(mode: str, state: str) -> None:
    """If checks are to be enforced, it is a failure that nobody asks; else it is only said."""
    for (level, text), engine in zip(found(mode), ("docker", "podman"), strict=True):
        assert level == state
        assert text.startswith(f"{engine} does not ask the service")
        assert f"canhazgpu install {engine}" in text


def test_after_the_installation_all_is_well(folder: Path) -> None:
    """The files that `install` writes are right, until the program that they name is gone."""
    container_files.docker(to=str(folder))
    container_files.podman(to=str(folder))
    assert [state for state, _ in found()] == ["ok", "ok"]
    (folder / "canhazgpu").unlink()
    assert [state for state, _ in found()] == ["fail", "fail"]


def test_a_runtime_that_is_added_later_is_named(folder: Path) -> None:
    """Containers with that runtime would start unchecked."""
    container_files.docker(to=str(folder))
    path = folder / "daemon.json"
    settings = json.loads(path.read_text())
    settings["runtimes"]["nvidia"] = {"path": "nvidia-container-runtime"}
    path.write_text(json.dumps(settings))
    assert found()[0][0] == "fail"
    assert "--runtime nvidia" in found()[0][1]


@pytest.mark.usefixtures("folder")
def test_without_checks_nothing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the mode is off, or no engine is installed, there is nothing to do."""
    assert [state for state, _ in found("off")] == ["ok"]
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert found() == [("ok", "neither docker nor podman is installed")]
