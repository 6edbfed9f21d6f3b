"""`canhazgpu install docker` and `install podman`: the files that make runtimes ask before a start."""

import json
import subprocess
import sysconfig
from pathlib import Path

import pytest

from canhazgpu.cli.exit_codes import REFUSED, CommandEnded
from canhazgpu.cli.operations import container_files

ECHO = '#!/bin/sh\nprintf "%s\\n" "$0" "$@" >> {folder}/said\n{then}\n'


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation whose program records how it is called."""
    monkeypatch.delenv("CANHAZGPU_CONFIG", raising=False)
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(folder))
    return executable(folder / "canhazgpu")


def executable(path: Path, then: str = "") -> Path:
    """Write a program that records its words."""
    path.write_text(ECHO.format(folder=path.parent, then=then))
    path.chmod(0o755)
    return path


def daemon_json(folder: Path) -> dict[str, object]:
    """Return the settings of Docker."""
    return dict(json.loads((folder / "daemon.json").read_text()))


def test_every_runtime_of_docker_is_checked(program: Path, tmp_path: Path) -> None:
    """The default runtime becomes ours, other settings stay, and a second installation changes nothing."""
    nvidia = {"path": "/x/nvidia-container-runtime", "runtimeArgs": []}
    (tmp_path / "daemon.json").write_text(json.dumps({"log-level": "info", "runtimes": {"nvidia": nvidia}}))
    container_files.docker(to=str(tmp_path))
    first = {path.name: path.read_text() for path in tmp_path.glob("canhazgpu-*")}
    settings = daemon_json(tmp_path)
    assert settings == {
        "log-level": "info",
        "default-runtime": "canhazgpu",
        "runtimes": {
            "nvidia": {"path": f"{tmp_path}/canhazgpu-runtime-nvidia", "runtimeArgs": []},
            "canhazgpu": {"path": f"{tmp_path}/canhazgpu-runtime-canhazgpu"},
        },
    }
    assert "next=/x/nvidia-container-runtime\n" in first["canhazgpu-runtime-nvidia"]
    assert f"program={program}\n" in first["canhazgpu-runtime-nvidia"]
    container_files.docker(to=str(tmp_path))
    assert daemon_json(tmp_path) == settings
    assert {path.name: path.read_text() for path in tmp_path.glob("canhazgpu-*")} == first


def test_another_default_runtime_stays_and_is_checked(program: Path, tmp_path: Path) -> None:
    """If the default is NVIDIA's runtime, it remains the default."""
    assert program.exists()
    settings = {"default-runtime": "nvidia", "runtimes": {"nvidia": {"path": "/x/n"}}}
    (tmp_path / "daemon.json").write_text(json.dumps(settings))
    container_files.docker(to=str(tmp_path))
    assert daemon_json(tmp_path)["default-runtime"] == "nvidia"


def test_a_default_runtime_that_cannot_be_checked_is_named(
    program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A shim of containerd's is no program that our script could run."""
    assert program.exists()
    (tmp_path / "daemon.json").write_text('{"default-runtime": "io.containerd.runc.v2"}')
    container_files.docker(to=str(tmp_path))
    assert capsys.readouterr().err == (
        "Warning: containers without --runtime, which use io.containerd.runc.v2, are not checked\n"
    )


def test_the_script_asks_only_before_a_start(program: Path, tmp_path: Path) -> None:
    """It asks before `create`, then runs the next runtime with the same words; a refusal ends it."""
    following = executable(program.parent / "next")
    script = tmp_path / "script"
    script.write_text(container_files.script(program, str(following)))
    said = program.parent / "said"
    create = ["--log", "/x y", "create", "--bundle", "/b", "name"]
    for words in (["state", "name"], create):
        subprocess.run(["sh", script, *words], check=True)
    asked = [str(program), "oci", "runtime", "--next", str(following), "--", *create]
    assert said.read_text().splitlines() == [str(following), "state", "name", *asked, str(following), *create]
    said.unlink()
    process = tmp_path / "process"
    for text, asks in (("{}", 0), ('"CANHAZGPU_TOKEN=x"', 1)):
        process.write_text(text)
        subprocess.run(["sh", script, "exec", "--process", str(process), "name"], check=True)
        assert said.read_text().splitlines().count(str(program)) == asks
    said.unlink()
    executable(program, "exit 1")
    assert subprocess.run(["sh", script, *create], check=False).returncode == 1
    assert said.read_text().splitlines() == asked
    program.unlink()
    said.unlink()
    subprocess.run(["sh", script, *create], check=True)
    assert said.read_text().splitlines() == [str(following), *create]


@pytest.mark.parametrize(("text", "said"), [("{", "is not valid JSON"), ("[]", "is not a JSON object")])
def test_settings_that_cannot_be_read_stay(
    program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    """An invalid daemon.json is named and is not replaced."""
    assert program.exists()
    (tmp_path / "daemon.json").write_text(text)
    with pytest.raises(CommandEnded) as ended:
        container_files.docker(to=str(tmp_path))
    assert ended.value.code == REFUSED
    assert said in capsys.readouterr().err
    assert (tmp_path / "daemon.json").read_text() == text


def test_podman_gets_a_hook_with_the_settings_of_this_host(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hook runs for every container, before its first process, with the settings file named now."""
    monkeypatch.setenv("CANHAZGPU_CONFIG", "/x/config.toml")
    container_files.podman(to=str(tmp_path))
    found = json.loads((tmp_path / "canhazgpu.json").read_text())
    assert found["stages"] == ["createRuntime"]
    assert found["when"] == {"always": True}
    assert found["hook"]["path"] == str(program)
    assert found["hook"]["args"][1:] == ["oci", "hook"]
    assert found["hook"]["env"] == ["CANHAZGPU_CONFIG=/x/config.toml"]
