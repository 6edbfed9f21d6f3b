"""A pbs_mom of a test's own: it runs the scripts of Torque and the hook of OpenPBS as their manuals say."""

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.daemon import Daemon, gpu, until
from support.people import Person

from canhazgpu.cli.operations import pbs_files
from canhazgpu.client import Client

GPUS = 4
NODE = "node1"
MODULES = Path(__file__).parent / "openpbs"
SETTINGS = '[pbs]\nwait = "1s"\nhome = "{folder}/torque"\njobs_dir = "{folder}/jobs"\n'


def cards(*processes: tuple[int, str]) -> list[str]:
    """Return the scenario: the GPU 0 has the device file 3, and so on, down to GPU 3 with 0."""
    used = dict(processes)
    return [
        gpu(index, *([used[index]] if index in used else []), minor=GPUS - 1 - index, memory_used_mb=45)
        for index in range(GPUS)
    ]


class Mom:
    """The pbs_mom of one node, with a service."""

    def __init__(self, daemon: Daemon) -> None:
        """Write the scripts as `canhazgpu install pbs` does. It refuses a folder below /tmp itself."""
        self.daemon = daemon
        self.home = daemon.folder / "torque"
        self.notes = daemon.folder / "jobs"
        self.mom_priv = self.home / "mom_priv"
        for folder in (self.home / "aux", self.mom_priv / "jobs", self.mom_priv / "hooks" / "hook_data"):
            folder.mkdir(parents=True)
        program, config = Path(sysconfig.get_path("scripts"), "canhazgpu"), daemon.folder / "config.toml"
        for name, text in pbs_files.scripts(program, config).items():
            (self.mom_priv / name).write_text(text)
            (self.mom_priv / name).chmod(0o755)
        (self.mom_priv / "canhazgpu-hook.py").write_text(pbs_files.hook(program, config))

    @property
    def held(self) -> dict[str, list[int]]:
        """The GPUs that each job holds."""
        rows = Client(str(self.daemon.folder / "s")).get("/v1/reservations")
        return {row["label"].removeprefix("job "): row["gpus"] for row in rows if row["kind"] == "pbs"}

    def prologue(
        self, job: str, person: Person, *gpus: str, host: str = NODE
    ) -> "subprocess.CompletedProcess[str]":
        """Begin a job of Torque: write its files, then run the prologue with its nine arguments."""
        number = job.partition(".")[0].replace("[", "-").replace("]", "")
        (self.mom_priv / "jobs" / f"{number}.head.JB").touch()
        if gpus:
            lines = "".join(f"{one if '-' in one else f'{host}-gpu{one}'}\n" for one in gpus)
            (self.home / "aux" / f"{job}gpu").write_text(lines)
        limits = "neednodes=1:gpus=2,nodes=1:gpus=2,walltime=01:00:00"
        words = (job, person.name, "users", "train.sh", limits, "batch", "", "/x/4711.SC", host)
        nodes = {"PBS_MSHOST": host, "PBS_NODENUM": "0", "PBS_NODEFILE": f"{self.home}/aux/{job}"}
        return self.script("prologue", *words, **nodes)

    def epilogue(self, job: str, person: Person) -> "subprocess.CompletedProcess[str]":
        """End a job of Torque: run the epilogue with its eleven arguments."""
        used = "cput=00:00:01,mem=1kb,walltime=00:00:02"
        words = (
            job,
            person.name,
            "users",
            "train.sh",
            "4242",
            "nodes=1",
            used,
            "batch",
            "",
            "0",
            "/x/4711.SC",
        )
        return self.script("epilogue", *words)

    def forget(self, job: str) -> None:
        """Remove the file of a job, as pbs_mom does in the end."""
        number = job.partition(".")[0].replace("[", "-").replace("]", "")
        (self.mom_priv / "jobs" / f"{number}.head.JB").unlink()

    def script(self, name: str, *words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run a script in mom_priv, with an environment that has nothing else."""
        return subprocess.run(
            [str(self.mom_priv / f"canhazgpu-{name}"), *words],
            cwd=self.mom_priv,
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def settle(self) -> None:
        """Let the beginning of all jobs be a while ago."""
        for path in self.notes.glob("[0-9]*"):
            os.utime(path, (path.stat().st_mtime - 100,) * 2)

    def hook(self, event: str, **facts: Any) -> dict[str, Any]:
        """Run the hook for an event of OpenPBS; return what it decides."""
        path = self.home / "event.json"
        conf = {"PBS_HOME": str(self.home)}
        path.write_text(json.dumps({"event": event, "node": NODE, "conf": conf, **facts}))
        decision = path.with_suffix(".decision")
        decision.unlink(missing_ok=True)
        done = subprocess.run(
            [sys.executable, str(self.mom_priv / "canhazgpu-hook.py")],
            env={"PBS_EVENT": str(path), "PYTHONPATH": str(MODULES)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert decision.exists(), done.stderr
        found: dict[str, Any] = json.loads(decision.read_text())
        return found

    def assign(self, job: str, *devices: str) -> None:
        """Record the devices of a job as the hook pbs_cgroups does."""
        (self.mom_priv / "hooks" / "hook_data" / job).write_text(json.dumps({"device_names": list(devices)}))


@contextmanager
def mom(*scenario: str) -> Iterator[Mom]:
    """Run a node until the block ends, with these GPUs instead of `cards`."""
    with tempfile.TemporaryDirectory(prefix="chg-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        daemon = Daemon(folder, SETTINGS.format(folder=folder))
        daemon.place(*(scenario or cards()))
        daemon.start()
        try:
            until(lambda: scenario or daemon.status().count("AVAILABLE") == GPUS)
            yield Mom(daemon)
        finally:
            daemon.stop()


def clear(node: Mom) -> None:
    """End everything that is reserved."""
    node.daemon.run("admin", "release", "--all")
    for folder in (
        node.notes,
        node.home / "aux",
        node.mom_priv / "jobs",
        node.mom_priv / "hooks" / "hook_data",
    ):
        for path in folder.glob("*"):
            path.unlink()
    until(lambda: node.daemon.status().count("AVAILABLE") == GPUS)
