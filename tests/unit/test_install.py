"""`canhazgpu install`: files with the paths of this installation, and a refusal where they would not work."""

import importlib.util
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from support.programs import need

from canhazgpu.cli.exit_codes import CommandEnded
from canhazgpu.cli.operations import install, monitoring_files


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation of root's that the service can reach."""
    monkeypatch.delenv("CANHAZGPU_CONFIG", raising=False)
    monkeypatch.setattr(install, "HIDDEN", {"ProtectHome=": ("/home",), "PrivateTmp=": ("/tmp/private",)})  # noqa: S108
    monkeypatch.setattr(install, "PACKAGED", ())
    monkeypatch.setattr(install, "is_roots", lambda path: "shared" not in path.parts)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    monkeypatch.setattr(
        sysconfig, "get_path", lambda name: str(tmp_path / "bin") if name == "scripts" else ""
    )
    program = tmp_path / "bin" / "canhazgpu"
    program.parent.mkdir()
    program.touch(mode=0o755)
    return program


def _systemd(to: Path, *, worker: bool = False, web: bool = False) -> dict[str, str]:
    install.systemd(worker=worker, web=web, to=str(to))
    return {path.name: path.read_text() for path in to.iterdir()}


def _refused(to: Path | None, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(CommandEnded) as refused:
        install.systemd(worker=False, to=str(to) if to else None)
    assert refused.value.code == 1
    return capsys.readouterr().err


def test_the_unit_runs_this_installation(
    program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its command is the script beside this Python, and the rest is the shipped unit."""
    (tmp_path / "to").mkdir()
    text = _systemd(tmp_path / "to")["canhazgpu.service"]
    shipped = install.shipped("canhazgpu.service").splitlines()
    assert set(text.splitlines()) ^ set(shipped) == {
        f"ExecStart={program} serve",
        "ExecStart=/opt/canhazgpu/bin/canhazgpu serve",
        *(line for line in shipped if line.startswith("Documentation")),
    }
    said = capsys.readouterr().out.splitlines()
    assert said == [
        f"Wrote {tmp_path}/to/canhazgpu.service",
        "Next: systemctl daemon-reload && systemctl enable --now canhazgpu",
    ]


def test_the_worker_gets_a_unit_of_its_own(
    program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --worker the service leaves the notices to it."""
    (tmp_path / "to").mkdir()
    written = _systemd(tmp_path / "to", worker=True)
    assert f"ExecStart={program} serve --no-workers\n" in written["canhazgpu.service"]
    assert f"ExecStart={program} worker\n" in written["canhazgpu-worker.service"]
    assert capsys.readouterr().out.endswith("enable --now canhazgpu canhazgpu-worker\n")


def test_the_page_gets_a_unit(program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --web there is a unit for `canhazgpu web`, which is no user that exists."""
    (tmp_path / "to").mkdir()
    text = _systemd(tmp_path / "to", web=True)["canhazgpu-web.service"]
    assert f"\nExecStart={program} web\n" in text
    assert "\nDynamicUser=yes\n" in text
    assert capsys.readouterr().out.endswith("enable --now canhazgpu canhazgpu-web\n")


@pytest.mark.parametrize("name", ["kubernetes", "exporter"])
def test_what_is_installed_beside_the_service_gets_a_unit(
    program: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    """The unit runs this installation; without the packages of the extra there is one line, and no unit."""
    (tmp_path / "to").mkdir()
    (tmp_path / "units").mkdir()
    (tmp_path / "units" / "canhazgpu.service").touch()  # Of the package, which has none for this.
    monkeypatch.setattr(install, "PACKAGED", (str(tmp_path / "units"),))
    monkeypatch.setattr(install, "UNITS", str(tmp_path / "to"))
    command = getattr(install, name)
    command(to=None)
    text = (tmp_path / "to" / f"canhazgpu-{name}.service").read_text()
    assert f"\nExecStart={program} {name}\n" in text
    assert capsys.readouterr().out.endswith(f"systemctl enable --now canhazgpu-{name}\n")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(CommandEnded):
        command(to=str(tmp_path))
    assert f"pip install 'canhazgpu[{name}]'" in capsys.readouterr().err
    assert not (tmp_path / f"canhazgpu-{name}.service").exists()


def test_rules_and_dashboard_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where Prometheus finds them, with the lines to add; what was there before is kept."""
    (tmp_path / "canhazgpu.alerts.yml").write_text("groups: []\n")
    monitoring_files.prometheus(to=str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {
        *("canhazgpu.alerts.yml", "canhazgpu.alerts.yml.bak"),
        *("canhazgpu.recording.yml", "canhazgpu.dashboard.json"),
    }
    assert f"  rule_files:\n  - {tmp_path}/canhazgpu.*.yml\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    "odd", ["lab 1.toml", "50%.toml", 'a"b.toml', "a\\b.toml", "plain.toml", "$HOME.toml"]
)
def test_systemd_reads_the_settings_file_as_it_is_called(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: str
) -> None:
    """The file that this command was given is the service's, whatever its name."""
    assert program.exists()
    need("systemd-analyze")
    (tmp_path / "to").mkdir()
    (tmp_path / odd).touch()
    monkeypatch.setenv("CANHAZGPU_CONFIG", str(tmp_path / odd))
    _systemd(tmp_path / "to")
    words = ["systemd-analyze", "verify", "--man=no", str(tmp_path / "to" / "canhazgpu.service")]
    verified = subprocess.run(words, capture_output=True, text=True, check=True)
    assert verified.stderr == ""
    (line,) = (
        line for line in (tmp_path / "to" / "canhazgpu.service").read_text().splitlines() if odd[-5:] in line
    )
    assert line.count("%") == 2 * odd.count("%")
    unquoted = line.removeprefix("Environment=").strip('"').replace('\\"', '"').replace("\\\\", "\\")
    assert unquoted.replace("%%", "%") == f"CANHAZGPU_CONFIG={tmp_path / odd}"


def test_an_older_unit_is_kept(program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If it says something else; writing the same again keeps nothing."""
    assert program.exists()
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "canhazgpu.service").write_text("mine\n")
    written = _systemd(tmp_path / "to")
    assert written["canhazgpu.service.bak"] == "mine\n"
    assert "(the previous one is now canhazgpu.service.bak)" in capsys.readouterr().out
    assert _systemd(tmp_path / "to") == written
    assert ".bak" not in capsys.readouterr().out


def test_an_installation_that_the_service_cannot_reach_is_refused(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One in a home would not start, one that others can change would give them root; both say what to do."""
    remedy = "install it for the host: python3 -m venv /opt/canhazgpu\n"
    monkeypatch.setattr(sys, "base_prefix", "/home/alice/python")
    said = f"Error: this installation is in /home/alice/python, which ProtectHome= hides: {remedy}"
    assert _refused(tmp_path, capsys) == said
    shared = tmp_path / "shared"
    shared.mkdir()
    monkeypatch.setattr(sys, "base_prefix", str(shared))
    said = f"Error: users other than root can change {shared}, which the service runs: {remedy}"
    assert _refused(tmp_path, capsys) == said
    renamed = program.parent.with_name("a b") / "canhazgpu"
    program.parent.rename(renamed.parent)
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(renamed.parent))
    assert _refused(tmp_path, capsys) == f"Error: a unit cannot name {renamed}: {remedy}"
    renamed.unlink()
    assert _refused(tmp_path, capsys) == f"Error: {renamed} does not exist: {remedy}"
    assert not list(tmp_path.glob("*.service"))


def test_a_light_installation_has_no_service_to_start(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error says what to install, instead of a unit that fails later."""
    assert program.exists()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert _refused(tmp_path, capsys).endswith("not installed: pip install 'canhazgpu[service]'\n")


def test_the_unit_of_a_package_is_left_alone(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second unit in /etc would hide the package's, also its upgrades."""
    assert program.exists()
    (tmp_path / "canhazgpu.service").touch()
    monkeypatch.setattr(install, "PACKAGED", (str(tmp_path),))
    assert "belongs to the package: change it with `systemctl edit canhazgpu`" in _refused(None, capsys)


def test_a_folder_that_cannot_be_written_is_one_line(
    program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error names the file."""
    assert program.exists()
    missing = tmp_path / "missing"
    said = f"Error: {missing}/canhazgpu.service cannot be written: No such file or directory\n"
    assert _refused(missing, capsys) == said


def test_settings_that_the_unit_hides_are_named(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Paths in homes, in /tmp and in read-only folders get a warning each; the unit is written."""
    assert program.exists()
    (tmp_path / "to").mkdir()
    file = tmp_path / "lab.toml"
    file.write_text('socket = "/tmp/private/s"\nstate_dir = "/home/lab"\nnotify.log.path = "/etc/x/y.log"\n')
    monkeypatch.setenv("CANHAZGPU_CONFIG", str(file))
    assert "canhazgpu.service" in _systemd(tmp_path / "to")
    assert capsys.readouterr().err.splitlines() == [
        f"Warning: {name} is {path}, but the unit has {directive}: change one of them"
        for name, path, directive in (
            ("socket", "/tmp/private/s", "PrivateTmp="),  # noqa: S108
            ("state_dir", "/home/lab", "ProtectHome="),
            ("notify.log.path", "/etc/x/y.log", "ProtectSystem="),
        )
    ]


def test_the_rotation_is_that_of_the_log_in_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is for that log, and logrotate accepts it."""
    need("logrotate")
    file = tmp_path / "lab.toml"
    file.write_text(f'notify.log.path = "{tmp_path}/my log/violations.log"\n')
    monkeypatch.setenv("CANHAZGPU_CONFIG", str(file))
    install.logrotate(to=str(tmp_path))
    words = ["logrotate", "--debug", "--state", str(tmp_path / "state"), str(tmp_path / "canhazgpu")]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stderr
    assert f"considering log {tmp_path}/my log/violations.log" in said
    assert "error:" not in said


def test_the_profile_is_the_shipped_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --to, the files for all shells are in that directory, and zsh is told where."""
    install.profile(to=str(tmp_path))
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert written == {name: install.shipped(name) for name in ("canhazgpu.sh", "canhazgpu.fish")}
    said = capsys.readouterr().out
    assert said.startswith(f"Wrote {tmp_path}/canhazgpu.sh\n")
    assert not Path(install.ZSH).is_dir() or f". {tmp_path}/canhazgpu.sh" in said


def test_a_host_without_fish_gets_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is not installed is not configured, and not mentioned."""
    monkeypatch.setattr(install, "PROFILES", str(tmp_path))
    for name in ("FISH", "ZSH"):
        monkeypatch.setattr(install, name, str(tmp_path / "none"))
    install.profile()
    assert capsys.readouterr().out == f"Wrote {tmp_path}/canhazgpu.sh\n"
