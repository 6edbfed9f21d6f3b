"""What `canhazgpu slurm` makes of slurmd's variables and Slurm's answers; what `install slurm` writes."""

import sysconfig
from pathlib import Path

import pytest

from canhazgpu.cli.exit_codes import USAGE, CommandEnded
from canhazgpu.cli.jobs.notes import Job, JobNotes
from canhazgpu.cli.operations import scheduler_scripts, slurm_files
from canhazgpu.cli.slurm import scheduler
from canhazgpu.cli.slurm.jobs import job_of

JOB = {"SLURM_JOB_ID": "17", "SLURM_JOB_UID": "1001", "SLURM_JOB_GPUS": "1,0"}
FILES = ["/dev/nvidia2", "/dev/nvidia5"]
SCONTROL = """#!/bin/sh
printf '%s\\n' "$*" >> {folder}/said
case "$*" in
*show*)
    echo "JobId=18 ArrayJobId=17 ArrayTaskId=1 JobName=x"
    echo "JobId=17 ArrayJobId=17 ArrayTaskId=2 JobName=x"
    ;;
requeue*) exit {requeue} ;;
esac
"""


def test_a_number_is_a_device_file() -> None:
    """Without a list, the number N is /dev/nvidiaN; else it is the place in the list."""
    assert job_of(JOB, []) == Job("17", 1001, (0, 1))
    assert job_of(JOB, FILES) == Job("17", 1001, (2, 5))


def test_instances_of_mig_are_gpus_of_their_own() -> None:
    """Slurm's list names MIG instances as people do; a job has either them or whole GPUs."""
    files = ["0:0", "0:2", "/dev/nvidia1"]
    assert job_of(JOB, files) == Job("17", 1001, (), (1024, 1026))
    assert job_of({**JOB, "SLURM_JOB_GPUS": "2"}, files) == Job("17", 1001, (1,))
    with pytest.raises(CommandEnded):
        job_of({**JOB, "SLURM_JOB_GPUS": "1,2"}, files)


@pytest.mark.parametrize("gpus", ["", None])
def test_a_job_without_gpus_is_none(gpus: str | None) -> None:
    """There is nothing to reserve for it."""
    environment = {name: value for name, value in JOB.items() if name != "SLURM_JOB_GPUS"}
    assert job_of(environment if gpus is None else {**environment, "SLURM_JOB_GPUS": gpus}, []) is None


@pytest.mark.parametrize(
    ("changed", "files", "said"),
    [
        ({"SLURM_JOB_GPUS": "2"}, FILES, "slurm.devices has 2 device files, but SLURM_JOB_GPUS is 2"),
        ({"SLURM_JOB_GPUS": "MIG-1"}, [], "run this from slurmd"),
        ({"SLURM_JOB_UID": ""}, [], "run this from slurmd"),
        ({"SLURM_JOB_ID": "../x"}, [], "run this from slurmd"),
    ],
)
def test_variables_that_make_no_sense_are_one_line(
    changed: dict[str, str], files: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong variable or setting is named, and the exit code is that of a wrong usage."""
    with pytest.raises(CommandEnded) as ended:
        job_of({**JOB, **changed}, files)
    assert ended.value.code == USAGE
    assert said in capsys.readouterr().err


def test_notes_are_those_of_the_jobs_on_the_node(tmp_path: Path) -> None:
    """A job is noted from `add` to `remove`; files that are no notes are passed over."""
    notes, job = JobNotes(str(tmp_path / "jobs")), Job("17", 1001, (0,))
    assert notes.ages() == {}
    notes.add(job)
    (tmp_path / "jobs" / "18").write_text("{")
    assert list(notes.ages()) == [job]
    assert notes.has(job)
    assert (tmp_path / "jobs").stat().st_mode & 0o777 == 0o700
    notes.remove("17")
    notes.remove("17")
    assert not notes.has(job)


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a scontrol and a scancel that write down how they were called."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(scheduler, "ARRIVES", 0.0)
    _script(tmp_path / "scontrol", SCONTROL.format(folder=tmp_path, requeue=0))
    _script(tmp_path / "scancel", f'#!/bin/sh\necho "scancel $@" >> {tmp_path}/said\n')
    return tmp_path


def _script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def test_a_task_of_an_array_is_named_by_array_and_task(commands: Path) -> None:
    """The id of an array is also that of one of its tasks, and would mean all of them."""
    assert scheduler.send_back("17", "GPU 0 is\nreserved") == "requeued"
    said = (commands / "said").read_text().splitlines()
    assert said[1:] == [r"update JobId=17_2 AdminComment=canhazgpu: GPU 0 is\nreserved", "requeue 17_2"]


def test_a_job_that_cannot_be_requeued_is_cancelled(commands: Path) -> None:
    """It is told why before it ends."""
    _script(commands / "scontrol", SCONTROL.format(folder=commands, requeue=1))
    assert scheduler.send_back("17", "no") == "cancelled"
    assert (commands / "said").read_text().splitlines()[-2:] == ["notify 17_2 canhazgpu: no", "scancel 17_2"]


def test_a_slurm_that_is_not_there_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the command."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(scheduler.SlurmFailed, match="squeue: No such file"):
        scheduler.jobs_on("node")


def test_the_lines_name_the_scripts_that_are_written(tmp_path: Path) -> None:
    """slurm.conf gets five lines; each script runs the program of this installation with its settings."""
    found = slurm_files.files(tmp_path, Path("/opt/canhazgpu/bin/canhazgpu"), Path("/etc/x.toml"))
    lines = dict(line.split("=") for line in found.pop("canhazgpu.conf").splitlines()[1:])
    assert {Path(value).name for value in lines.values()} >= set(found)
    for name, text in found.items():
        assert text.startswith("#!/bin/sh\n")
        assert f"exec /opt/canhazgpu/bin/canhazgpu slurm {name.removeprefix('canhazgpu-')}\n" in text
        assert "CANHAZGPU_CONFIG=/etc/x.toml\n" in text


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed program in a place that only root can change."""
    monkeypatch.setattr(scheduler_scripts, "is_roots", lambda path: "shared" not in path.parts)
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.delenv("CANHAZGPU_CONFIG", raising=False)
    _script(tmp_path / "canhazgpu", "#!/bin/sh\n")
    return tmp_path / "canhazgpu"


def test_install_writes_beside_slurm_conf(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The scripts can be executed, and the output says which line slurm.conf needs."""
    (tmp_path / "etc").mkdir()
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "etc" / "slurm.conf"))
    slurm_files.slurm()
    written = sorted(path.name for path in (tmp_path / "etc").iterdir())
    assert written == ["canhazgpu-epilog", "canhazgpu-prolog", "canhazgpu-reconcile", "canhazgpu.conf"]
    assert (tmp_path / "etc" / "canhazgpu-prolog").stat().st_mode & 0o777 == 0o755
    assert f"exec {program} slurm prolog" in (tmp_path / "etc" / "canhazgpu-prolog").read_text()
    out = capsys.readouterr().out
    assert f"add the line `Include canhazgpu.conf` to {tmp_path}/etc/slurm.conf" in out
    assert f"  Prolog={tmp_path}/etc/canhazgpu-prolog\n" in out


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("missing", "missing does not exist: name the directory of slurm.conf with --to"),
        ("shared", "users other than root can change"),
        ("a b", "a script cannot name"),
    ],
)
@pytest.mark.usefixtures("program")
def test_install_refuses_what_slurmd_should_not_run(
    folder: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is written where slurmd could not find it, or where others could change it."""
    if folder != "missing":
        (tmp_path / folder).mkdir()
    with pytest.raises(CommandEnded):
        slurm_files.slurm(to=str(tmp_path / folder))
    assert said in capsys.readouterr().err
    assert not list(tmp_path.glob("*/canhazgpu-*"))
