"""What `canhazgpu doctor` says about Slurm and PBS on this host."""

from pathlib import Path

import pytest

from canhazgpu.cli.doctor import scheduler_checks
from canhazgpu.cli.operations import pbs_files, slurm_files
from canhazgpu.config.settings import Settings


def found() -> list[tuple[str, str]]:
    """Return the state of each finding, with what was found and the remedy."""
    return [(state, f"{what} {remedy}") for state, what, remedy in scheduler_checks.schedulers(Settings())]


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host without a scheduler."""
    monkeypatch.setattr(scheduler_checks, "PATH", str(tmp_path))
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    monkeypatch.setenv("PBS_CONF_FILE", str(tmp_path / "pbs.conf"))
    monkeypatch.setattr("canhazgpu.cli.jobs.mom_priv.HOMES", ())
    monkeypatch.delenv("PBS_HOME", raising=False)
    return tmp_path


@pytest.fixture
def slurm(bare: Path) -> Path:
    """A host with slurmd; returns its directory, where slurm.conf is still missing."""
    (bare / "slurmd").write_text("#!/bin/sh\n")
    (bare / "slurmd").chmod(0o755)
    return bare


@pytest.fixture
def mom_priv(bare: Path) -> Path:
    """A host with the directory of pbs_mom."""
    (bare / "pbs" / "mom_priv").mkdir(parents=True)
    (bare / "pbs.conf").write_text(f"PBS_HOME={bare}/pbs\n")
    return bare / "pbs" / "mom_priv"


def install(folder: Path, files: dict[str, str]) -> None:
    """Write files into a directory."""
    for name, text in files.items():
        (folder / name).write_text(text)


@pytest.mark.usefixtures("bare")
def test_without_a_scheduler_there_is_nothing_to_do() -> None:
    """One line says so."""
    assert found() == [("ok", "neither Slurm nor PBS is installed ")]


def test_slurm_that_is_not_set_up_is_fine(slurm: Path) -> None:
    """Without slurm.conf, no jobs run here."""
    assert found() == [("ok", f"Slurm is not set up on this host: there is no {slurm}/slurm.conf ")]


def test_each_line_that_slurm_conf_lacks_is_named(slurm: Path) -> None:
    """From a slurm.conf without canhazgpu to one that includes all lines, in any case and order."""
    install(slurm, slurm_files.files(slurm, Path("/opt/canhazgpu/bin/canhazgpu"), None))
    conf = slurm / "slurm.conf"
    text = "ClusterName=test\nProlog=/bin/true # canhazgpu\n"
    for more, said in (
        ("", "its Prolog does not run canhazgpu"),
        (f"PROLOG = {slurm}/canhazgpu-prolog\n", "its Epilog does not run canhazgpu"),
        (f"Epilog={slurm}/canhazgpu-epilog\n", "no HealthCheckProgram"),
        (f"HealthCheckProgram={slurm}/canhazgpu-reconcile\n", "PrologFlags lacks Alloc"),
    ):
        text += more
        conf.write_text(text)
        ((state, what),) = found()
        assert (state, said in what, "canhazgpu install slurm" in what) == ("warn", True, True), what
    conf.write_text(f"{text}PrologFlags=X11,alloc\n")
    assert found() == [("ok", "Slurm reserves the GPUs of its jobs ")]
    conf.write_text("ClusterName=test\nInclude canhazgpu.conf\n")
    assert found() == [("ok", "Slurm reserves the GPUs of its jobs ")]
    (slurm / "canhazgpu-prolog").unlink()
    assert found()[0][0] == "warn"


def test_torque_needs_three_scripts(mom_priv: Path) -> None:
    """The prologue, the epilogue and the line for reconcile, each with its remedy."""
    assert "its prologue does not run canhazgpu" in found()[0][1]
    install(mom_priv, pbs_files.scripts(Path("/opt/canhazgpu/bin/canhazgpu"), None))
    (mom_priv / "prologue").symlink_to("canhazgpu-prologue")
    assert "its epilogue does not run canhazgpu" in found()[0][1]
    (mom_priv / "epilogue").write_text(f'#!/bin/sh\n{mom_priv}/canhazgpu-epilogue "$@" || exit $?\n')
    assert found()[0][0] == "warn"
    assert f"add `$node_check_script {mom_priv}/canhazgpu-reconcile`" in found()[0][1]
    (mom_priv / "config").write_text(f"$node_check_script {mom_priv}/canhazgpu-reconcile\n")
    assert found() == [("ok", "PBS reserves the GPUs of its jobs ")]


def test_openpbs_needs_the_hook(mom_priv: Path) -> None:
    """pbs_mom keeps the hooks that the server sent it as NAME.PY."""
    (mom_priv / "hooks").mkdir()
    (mom_priv / "hooks" / "other.PY").write_text("import pbs\n")
    assert found()[0][0] == "warn"
    assert "OpenPBS does not reserve the GPUs of its jobs" in found()[0][1]
    (mom_priv / "hooks" / "canhazgpu.PY").write_text(
        pbs_files.hook(Path("/opt/canhazgpu/bin/canhazgpu"), None)
    )
    assert found() == [("ok", "PBS reserves the GPUs of its jobs ")]
