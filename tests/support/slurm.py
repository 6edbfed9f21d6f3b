"""A Slurm of a test's own: slurmctld, slurmd and munge on one node with four GPUs, in one folder."""

import os
import shutil
import signal
import socket
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from support.daemon import Daemon, gpu, until
from support.people import Person
from support.ports import free_port

GPUS = 4
NODE = socket.gethostname().partition(".")[0]
NEEDED = {"slurmctld": "slurm-wlm", "slurmd": "slurm-wlm", "sbatch": "slurm-wlm", "munged": "munge"}
CONF = """\
ClusterName=test
SlurmctldHost={node}(127.0.0.1)
SlurmctldPort={ctld}
SlurmdPort={slurmd}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock,cred_expire={expire}
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
GresTypes=gpu
ReturnToService=2
SlurmdParameters=config_overrides
KillWait=1
MinJobAge=7200
MessageTimeout=60
SlurmdTimeout=300
NodeName={node} NodeAddr=127.0.0.1 CPUs=256 Gres=gpu:{gpus} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
Include canhazgpu.conf
"""
# Slurm looks for the control groups of the host, but is not to use them.
CGROUPS = "CgroupPlugin=cgroup/v1\nCgroupMountpoint={folder}/cgroup\n"


def absent() -> str:
    """Return why there can be no Slurm here, empty where there can be one."""
    if os.geteuid() != 0:
        return "only root may start Slurm"
    missing = sorted({package for name, package in NEEDED.items() if not shutil.which(name, path=_path())})
    return f"not installed: {', '.join(missing)}" if missing else ""


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


class Slurm:
    """One cluster of one node; its jobs' GPUs are reserved by the commands of this installation."""

    def __init__(self, folder: Path, daemon: Daemon, *, expire: int = 5) -> None:
        """Start everything; `expire`: seconds until a requeued job may start, at least 5."""
        self.folder, self.daemon = folder, daemon
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        ports = {"ctld": free_port(), "slurmd": free_port()}
        facts = {"folder": folder, "node": NODE, "gpus": GPUS, "expire": expire, **ports}
        (folder / "slurm.conf").write_text(CONF.format(**facts))
        (folder / "cgroup.conf").write_text(CGROUPS.format(folder=folder))
        (folder / "gres.conf").write_text(f"Name=gpu File={folder}/nvidia[0-{GPUS - 1}]\n")
        for number in range(GPUS):
            os.mknod(folder / f"nvidia{number}", 0o666 | 0o020000, os.makedev(195, number))
        for name in ("state", "spool", "out"):
            (folder / name).mkdir()
        (folder / "out").chmod(0o777)
        try:
            self._install()
            self._munge()
            self.start("slurmctld", "-c")
            self.start("slurmd")
            until(lambda: self.node_state() == "idle", 30)
        except BaseException:
            self.stop()
            raise

    @property
    def environment(self) -> dict[str, str]:
        """The environment of Slurm's commands."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "CANHAZ"))}
        return {**kept, "PATH": _path(), "SLURM_CONF": str(self.folder / "slurm.conf")}

    def _install(self) -> None:
        """Write the scripts as `canhazgpu install slurm` does. It refuses a folder below /tmp itself."""
        from canhazgpu.cli.operations import slurm_files  # noqa: PLC0415 - only here

        program = Path(sysconfig.get_path("scripts"), "canhazgpu")
        for name, text in slurm_files.files(self.folder, program, self.daemon.folder / "config.toml").items():
            # The tests do by themselves what Slurm would do once a minute, in the middle of them.
            (self.folder / name).write_text(text.replace("HealthCheckInterval=60", "HealthCheckInterval=0"))
            (self.folder / name).chmod(0o755)

    def _munge(self) -> None:
        key = self.folder / "munge.key"
        subprocess.run(["/usr/sbin/mungekey", "--create", f"--keyfile={key}"], check=True)
        names = {"socket": "sock", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        words = [f"--{option}={self.folder}/munge.{end}" for option, end in names.items()]
        self._spawn("munged", "--foreground", "--force", f"--key-file={key}", *words)
        until((self.folder / "munge.sock").exists)

    def start(self, name: str, *words: str) -> None:
        """Start slurmctld or slurmd."""
        self._spawn(name, "-D", *words)

    def _spawn(self, name: str, *words: str) -> None:
        with (self.folder / f"{name}.output").open("ab") as output:
            self._children[name] = subprocess.Popen(
                [str(shutil.which(name, path=_path())), *words],
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def end(self, name: str, number: int = signal.SIGTERM) -> None:
        """End one of the daemons."""
        child = self._children.pop(name)
        child.send_signal(number)
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def run(self, *words: str, person: Person | None = None, check: bool = True) -> str:
        """Run one of Slurm's commands, as a person where one is named; return what it prints."""
        done = subprocess.run(
            person.command(*words) if person else words,
            env=self.environment,
            cwd=self.folder / "out",
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert not check or done.returncode == 0, f"{words}: {done.stderr}{done.stdout}"
        return done.stdout + ("" if check else done.stderr)

    def submit(self, person: Person, *words: str, script: str = "sleep 600") -> str:
        """Submit a batch job of a person; return its id."""
        wrapped = ("--parsable", "--output=/dev/null", *words, "--wrap", script)
        return self.run("sbatch", *wrapped, person=person).strip()

    def facts(self, job: str) -> dict[str, str]:
        """Return what Slurm says about a job; empty if it has forgotten it."""
        lines = self.run("scontrol", "--oneliner", "show", "job", job, check=False).splitlines()
        text = next((line for line in lines if line.startswith("JobId=")), "")
        found = dict(word.split("=", 1) for word in text.split() if "=" in word)
        comment = text.partition(" AdminComment=")[2]
        return {**found, **({"AdminComment": comment.partition(" Comment=")[0]} if comment else {})}

    def state(self, job: str) -> str:
        """Return the state of a job, such as RUNNING."""
        return self.facts(job).get("JobState", "")

    def until_state(self, job: str, state: str, seconds: float = 60) -> None:
        """Wait until a job is in this state."""
        until(lambda: self.state(job) == state, seconds, f"for job {job} to be {state}")

    def node_state(self) -> str:
        """Return the state of the node: such as idle or mixed."""
        return self.run("sinfo", "--noheader", "--format=%T", check=False).strip()

    def stop(self) -> None:
        """End all jobs and the daemons."""
        with suppress(AssertionError, subprocess.TimeoutExpired):
            if "slurmctld" in self._children and "slurmd" in self._children:
                self.run("scancel", "--state=PENDING", "--user=root", check=False)
                self.clear()
        for name in ("slurmd", "slurmctld", "munged"):
            if name in self._children:
                self.end(name, signal.SIGKILL)
        self.end_steps()

    def clear(self) -> None:
        """Cancel every job; return when the node is idle."""
        ids = self.run("squeue", "--noheader", "--format=%i", check=False).split()
        if ids:
            self.run("scancel", *ids, check=False)
        until(lambda: not self.run("squeue", "--noheader", check=False), 60)

    def end_steps(self) -> None:
        """End the steps that outlive slurmd: slurmstepd has the settings of this folder."""
        daemons = {str(child.pid) for child in self._children.values()}
        for path in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                ours = f"SLURM_CONF={self.folder}/slurm.conf".encode() in path.read_bytes()
                if ours and path.parent.name not in daemons:
                    os.kill(int(path.parent.name), signal.SIGKILL)


@contextmanager
def slurm(folder: Path, daemon: Daemon, *, expire: int = 5) -> Iterator[Slurm]:
    """Run a Slurm until the block ends."""
    if reason := absent():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    made = Slurm(folder, daemon, expire=expire)
    try:
        yield made
    finally:
        made.stop()


def cards(*processes: tuple[int, str], **facts: int) -> list[str]:
    """Return the scenario of the node: the GPU 0 has the device file 3, and so on, down to GPU 3 with 0."""
    used = dict(processes)
    return [
        gpu(
            index,
            *([used[index]] if index in used else []),
            minor=GPUS - 1 - index,
            memory_used_mb=45,
            **facts,
        )
        for index in range(GPUS)
    ]
