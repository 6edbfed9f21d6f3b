"""Podman in a folder of a test's own: no service starts its containers."""

import io
import os
import resource
import shutil
import subprocess
import tarfile
from contextlib import suppress
from pathlib import Path

from support.daemon import until
from support.dockerd import IMAGE, Box, busybox_tree, started
from support.people import Person

ALONE = ["--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--events-backend=file"]
LIMITS = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
NEEDED = {"podman": "podman", "busybox": "busybox-static"}
MOST = 1024  # Podman asks for more than a host may allow.


def podman_absent() -> str:
    """Return why there can be no containers of Podman here, empty where there can."""
    missing = sorted(package for name, package in NEEDED.items() if not shutil.which(name))
    if os.geteuid() != 0:
        return "only root may start containers for others"
    return f"not installed: {', '.join(missing)}" if missing else ""


class Podman:
    """Root's containers, or with a person theirs (rootless)."""

    def __init__(self, folder: Path, person: Person | None = None) -> None:
        """Make the image in `folder`, which is the test's own."""
        self._folder = folder
        self._before: list[str] = []
        self.environment = {**os.environ, "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)}
        if person:
            os.chown(folder, person.uid, person.gid)
            self._before = ["setpriv", f"--reuid={person.uid}", f"--regid={person.gid}", "--clear-groups"]
        places = [f"--{name}={folder / name}" for name in ("root", "runroot", "tmpdir")]
        self._before += ["podman", *places, *ALONE]
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            busybox_tree(tar)
        self.podman("import", "-", IMAGE, stdin=packed.getvalue())

    def podman(self, *words: str, stdin: bytes = b"") -> str:
        """Run a command of Podman's; return what it prints."""
        done = subprocess.run(
            [*self._before, *words],
            input=stdin,
            capture_output=True,
            check=False,
            env=self.environment,
            cwd="/",
            timeout=60,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()

    def command(self, *words: str) -> list[str]:
        """Return a command line of Podman's."""
        return [*self._before, *words]

    def limits(self) -> list[str]:
        """Return the options for limits that this host allows."""
        most = {name: min(MOST, resource.getrlimit(kind)[1]) for name, kind in LIMITS.items()}
        return [f"--ulimit={name}={number}:{number}" for name, number in most.items()]

    def start(self, *options: str) -> Box:
        """Start a container that does nothing for a while."""
        words = ["run", "--detach", "--network=none", *self.limits(), *options, IMAGE, "sleep", "600"]
        name = self.podman(*words)
        return Box(name, started(int(self.podman("inspect", name, "--format={{.State.Pid}}"))))

    def stop(self) -> None:
        """End all containers, and wait for what cleans up after them."""
        self.podman("rm", "--all", "--force", "--time=0")
        until(lambda: not self._commands())

    def _commands(self) -> list[str]:
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                found.append(path.read_bytes().decode("utf-8", "replace"))
        return [command for command in found if f"{self._folder}/" in command]
