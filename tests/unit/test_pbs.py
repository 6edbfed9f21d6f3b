"""What `canhazgpu pbs` makes of the GPU file and the job files of pbs_mom; what `install pbs` writes."""

import ast
import os
import pwd
import socket
import subprocess
import sysconfig
from pathlib import Path

import pytest

from canhazgpu.cli.exit_codes import USAGE, CommandEnded
from canhazgpu.cli.jobs.notes import Job
from canhazgpu.cli.operations import pbs_files, scheduler_scripts
from canhazgpu.cli.pbs.jobs import assigned_gpus, job_of
from canhazgpu.cli.pbs.mom import among, with_file

ROOT = pwd.getpwuid(0).pw_name
HERE = socket.gethostname().partition(".")[0]


@pytest.mark.parametrize(
    ("text", "gpus"),
    [
        ("", []),
        ("node1-gpu1\nnode1-gpu0\n", [0, 1]),
        ("NODE1.example-gpu/2\n", [2]),
        ("node-1-gpu0\nnode1-gpu3\n", [3]),
        (f"{HERE}-gpu1\n", [1]),
    ],
)
def test_lines_of_this_node_are_its_gpus(tmp_path: Path, text: str, gpus: list[int]) -> None:
    """A line is HOST-gpuN; the name of the host may be long or short, in capitals, and have a hyphen."""
    (tmp_path / "file").write_text(text)
    environment = {"PBS_GPUFILE": str(tmp_path / "file"), "PBS_MSHOST": "node1.example"}
    assert assigned_gpus("17.head", environment, "/nowhere") == gpus


def test_the_gpu_file_is_found_without_its_variable(tmp_path: Path) -> None:
    """It has the name of the job in Torque's directory aux; a job without the file has no GPU."""
    (tmp_path / "aux").mkdir()
    (tmp_path / "aux" / "17.headgpu").write_text("node1-gpu0\n")
    assert assigned_gpus("17.head", {"PBS_MSHOST": "node1"}, str(tmp_path)) == [0]
    assert assigned_gpus("18.head", {"PBS_MSHOST": "node1"}, str(tmp_path)) == []


def test_gpus_of_other_nodes_only_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If the file names none of this node, a warning has the names that differ."""
    (tmp_path / "file").write_text("other-gpu0\n")
    environment = {"PBS_GPUFILE": str(tmp_path / "file"), "PBS_MSHOST": "node1"}
    assert assigned_gpus("17.head", environment, "/nowhere") == []
    assert "job 17.head has GPUs on other, but none on" in capsys.readouterr().err


def test_a_prologue_has_at_least_three_arguments() -> None:
    """The first is the id of the job, also of one in an array, and the second its user."""
    assert job_of(["17[3].head", ROOT, "root"], [1, 0], []) == Job("17[3].head", 0, gpus=(0, 1), kind="pbs")
    assert job_of(["17", ROOT], [], [2]) == Job("17", 0, devices=(2,), kind="pbs")
    assert job_of(["17.head"], [], []) is None
    for words in ([], ["17.head"], ["17/../x", ROOT]):
        with pytest.raises(CommandEnded) as ended:
            job_of(words, [0], [])
        assert ended.value.code == USAGE


def test_job_files_are_those_of_the_jobs_on_the_node(tmp_path: Path) -> None:
    """Their names have a hyphen for the brackets of an array, and may be shorter than the id."""
    folder = tmp_path / "mom_priv" / "jobs"
    folder.mkdir(parents=True)
    for name in ("17.JB", "18-3.head.JB", "19.head.SC"):
        (folder / name).touch()
    jobs = {"17.head.example", "18[3].head.example", "18[4].head.example", "19.head.example", "1.head"}
    assert with_file(str(tmp_path))(jobs) == {"17.head.example", "18[3].head.example"}
    assert among({"1.head"})(jobs) == {"1.head"}


def test_job_files_that_cannot_be_read_are_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Then it is not known which jobs are on the node; the warning names the setting."""
    assert with_file(str(tmp_path))({"1.head"}) is None
    assert f"pbs.home: {tmp_path}/mom_priv/jobs: No such file" in capsys.readouterr().err


@pytest.fixture
def mom_priv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PBS whose directory pbs.conf names, and an installed program that only root can change."""
    (tmp_path / "canhazgpu").touch()
    (tmp_path / "pbs" / "mom_priv").mkdir(parents=True)
    (tmp_path / "pbs.conf").write_text(f"PBS_SERVER=head\nPBS_HOME={tmp_path}/pbs\n")
    monkeypatch.setattr(scheduler_scripts, "is_roots", lambda path: "shared" not in path.parts)
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.setenv("PBS_CONF_FILE", str(tmp_path / "pbs.conf"))
    monkeypatch.setenv("CANHAZGPU_CONFIG", "/etc/x.toml")
    monkeypatch.delenv("PBS_HOME", raising=False)
    return tmp_path / "pbs" / "mom_priv"


def test_torque_gets_scripts_that_pbs_mom_runs(mom_priv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The prologue and the epilogue are links to ours; writing them again changes nothing."""
    for _ in range(2):
        pbs_files.pbs()
        for name in ("prologue", "epilogue"):
            path = mom_priv / name
            assert (os.access(path, os.X_OK), path.readlink().name) == (True, f"canhazgpu-{name}")
            assert f'canhazgpu pbs {name} -- "$@"\n' in path.read_text()
            assert "CANHAZGPU_CONFIG=/etc/x.toml\n" in path.read_text()
        out = capsys.readouterr().out
        assert f"add the line `$node_check_script {mom_priv}/canhazgpu-reconcile`" in out
        assert "before its other commands" not in out
    assert not list(mom_priv.glob("*.bak"))


def test_a_prologue_of_their_own_stays(mom_priv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is not changed, and the output has the line that it needs."""
    (mom_priv / "prologue").write_text("#!/bin/sh\n")
    pbs_files.pbs()
    assert (mom_priv / "prologue").read_text() == "#!/bin/sh\n"
    assert f'  {mom_priv}/canhazgpu-prologue "$@" || exit $?\n' in capsys.readouterr().out


def test_openpbs_gets_a_hook(mom_priv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is Python with the paths of this installation, and the output has the commands for qmgr."""
    (mom_priv / "hooks").mkdir()
    pbs_files.pbs()
    assert [path.name for path in mom_priv.iterdir() if path.is_file()] == ["canhazgpu-hook.py"]
    text = (mom_priv / "canhazgpu-hook.py").read_text()
    ast.parse(text)
    assert f'PROGRAM = "{tmp_path}/canhazgpu"\nCONFIG = "/etc/x.toml"  #' in text
    out = capsys.readouterr().out
    assert f"import hook canhazgpu application/x-python default {mom_priv}/canhazgpu-hook.py" in out


@pytest.mark.usefixtures("mom_priv")
def test_install_refuses_what_pbs_mom_should_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is written where others could change it, or if there is no PBS."""
    (tmp_path / "shared").mkdir()
    with pytest.raises(CommandEnded):
        pbs_files.pbs(to=str(tmp_path / "shared"))
    assert "users other than root can change" in capsys.readouterr().err
    assert not list((tmp_path / "shared").iterdir())
    monkeypatch.setenv("PBS_CONF_FILE", "/nowhere")
    monkeypatch.setattr("canhazgpu.cli.jobs.mom_priv.HOMES", ())
    with pytest.raises(CommandEnded):
        pbs_files.pbs()
    assert "the directory mom_priv of PBS was not found: name it with --to" in capsys.readouterr().err


@pytest.mark.parametrize(("program", "code"), [("/bin/false", 2), ("/bin/true", 0), ("/nowhere", 127)])
def test_the_prologue_never_ends_a_job(tmp_path: Path, program: str, code: int) -> None:
    """The exit code 1 would end the job: whatever fails, the script sends the job back to the queue."""
    (tmp_path / "file").write_text("node1-gpu0\n")
    (tmp_path / "prologue").write_text(pbs_files.scripts(Path(program), None)["canhazgpu-prologue"])
    words = ["/bin/sh", str(tmp_path / "prologue"), "17.head"]
    environment = {"PBS_GPUFILE": str(tmp_path / "file")}
    assert subprocess.run(words, env=environment, capture_output=True, check=False).returncode == code
    (tmp_path / "file").unlink()
    assert subprocess.run(words, env=environment, capture_output=True, check=False).returncode == 0


def test_the_page_has_the_commands_that_install_prints() -> None:
    """docs/integrations/pbs.md names the events, the order and the file of the hook as `install pbs` does."""
    page = (Path(__file__).parents[2] / "docs" / "integrations" / "pbs.md").read_text()
    for words in (
        f'create hook canhazgpu event="{pbs_files.EVENTS}"',
        f"import hook canhazgpu application/x-python default /var/spool/pbs/mom_priv/{pbs_files.HOOK}",
        "order=200,alarm=60,freq=120",
        "$node_check_script /var/spool/torque/mom_priv/canhazgpu-reconcile",
    ):
        assert words in page
