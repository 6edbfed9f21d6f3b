"""A host whose Docker asks the service before it starts a container; no GPU is behind its device files."""

import json
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.daemon import COMMAND, Daemon, gpu, until
from support.dockerd import IMAGE, Dockerd, busybox_tree, dockerd
from support.people import Person

MAJOR = 195
GPUS = 2
# Docker knows the option --gpus where this program is. Nothing of NVIDIA's is here that reads the variable.
NVIDIA_HOOK = "#!/bin/sh\nexec cat >/dev/null\n"
NVIDIA_RUNTIME = '#!/bin/sh\nexec {runc} "$@"\n'
CHECK = '[containers]\ndocker_socket = ""\nmode = "{mode}"\nunreachable = "{unreachable}"\n'


def uuid(index: int) -> str:
    """Return the UUID of a GPU."""
    return f"GPU-{str(index) * 8}-0000-0000-0000-000000000000"


class CheckedHost:
    """The service, its settings, the device files, and Docker if it was started."""

    def __init__(self, folder: Path) -> None:
        """Start the service with checks that only warn."""
        self.folder = folder
        for index in range(GPUS):
            os.mknod(self.device(index), stat.S_IFCHR | 0o666, os.makedev(MAJOR, index))
        self.service = Daemon(folder, CHECK.format(mode="warn", unreachable="allow"))
        self.service.place(*(gpu(index, uuid=uuid(index), minor=index) for index in range(GPUS)))
        self.started()
        self.docker: Dockerd | None = None

    def device(self, index: int) -> Path:
        """Return the device file of a GPU."""
        return self.folder / f"nvidia{index}"

    def started(self) -> None:
        """Start the service; return when its GPUs are known."""
        self.service.start()
        until(
            lambda: len(self.service.status().splitlines()) == GPUS and "UNKNOWN" not in self.service.status()
        )

    def set_mode(self, mode: str, unreachable: str = "allow") -> None:
        """Restart the service with other settings."""
        path = self.folder / "config.toml"
        kept = path.read_text().partition("[containers]")[0]
        text = kept + CHECK.format(mode=mode, unreachable=unreachable)
        if tomllib.loads(text) != tomllib.loads(path.read_text()):
            self.service.stop()
            path.write_text(text)
            self.started()

    def install(self, what: str, to: Path) -> None:
        """Write the files that make runtimes ask."""
        done = self.service.run("install", what, "--to", str(to))
        assert done.returncode == 0, done.stderr

    def run(
        self, *words: str, person: Person | None = None, run: str = ""
    ) -> "subprocess.CompletedProcess[str]":
        """Run a `docker` command as a person, within `canhazgpu run` with these options if any are given."""
        assert self.docker is not None
        command = ["docker", f"--host=unix://{self.docker.socket}", *words]
        if run:
            command = [*COMMAND, "run", *run.split(), "--", *command]
        return subprocess.run(
            person.command(*command) if person else command,
            env=self.service.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def container(self, *options: str) -> list[str]:
        """Return the words of `docker` that start a container which prints its environment."""
        return ["run", "--rm", "--network=none", *options, IMAGE, "env"]

    def warnings(self) -> int:
        """Return how many containers the service has warned of."""
        return self.service.log.read_text().count("container_without_reservation")


class Bundle:
    """A container for runc without Docker: its files, and its configuration."""

    def __init__(self, folder: Path) -> None:
        """Write the files of the image."""
        self.folder = folder
        root = folder / "rootfs"
        root.mkdir(parents=True)
        archive = folder / "image.tar"
        with tarfile.open(archive, "w") as tar:
            busybox_tree(tar)
        subprocess.run(["tar", "-C", str(root), "-xf", str(archive)], check=True)

    def configure(self, **more: Any) -> None:
        """Write a configuration of the least that runc needs; its process prints its environment."""
        namespaces = [{"type": kind} for kind in ("pid", "mount", "uts", "ipc")]
        spec = {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": ["env"],
                "cwd": "/",
                "env": ["PATH=/bin", *more.pop("env", ())],
            },
            "root": {"path": "rootfs"},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
            ],
            "linux": {"namespaces": namespaces, **more.pop("linux", {})},
            **more,
        }
        (self.folder / "config.json").write_text(json.dumps(spec))

    def run(self, *runtime: str, name: str) -> "subprocess.CompletedProcess[str]":
        """Run it with a runtime; `name` is its name there."""
        words = [*runtime, "--root", str(self.folder / "state"), "run", "--bundle", str(self.folder), name]
        return subprocess.run(
            words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=60
        )


@contextmanager
def checked_host() -> Iterator[CheckedHost]:
    """Run a service on two GPUs while the block runs."""
    with tempfile.TemporaryDirectory(prefix="chg-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        host = CheckedHost(Path(name))
        try:
            yield host
        finally:
            host.service.stop()


@contextmanager
def checked_docker() -> Iterator[CheckedHost]:
    """Run a service and a Docker that asks it. Everybody can use Docker, as members of its group can."""
    with checked_host() as host:
        programs, files = host.folder / "programs", host.folder / "docker"
        for path, text in (
            (programs / "nvidia-container-runtime-hook", NVIDIA_HOOK),
            (programs / "nvidia-container-runtime", NVIDIA_RUNTIME.format(runc=shutil.which("runc"))),
        ):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            path.chmod(0o755)
        files.mkdir()
        runtimes = {"nvidia": {"path": str(programs / "nvidia-container-runtime")}}
        (files / "daemon.json").write_text(json.dumps({"runtimes": runtimes}))
        host.install("docker", files)
        config = f"--config-file={files / 'daemon.json'}"
        with dockerd(host.folder, config, programs=programs) as host.docker:
            Path(host.docker.socket).chmod(0o666)
            yield host
