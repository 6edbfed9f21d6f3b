"""A separate Docker daemon for tests: containers have no network, and images contain only busybox."""

import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from support.daemon import Daemon, until
from support.people import Person

IMAGE = "busybox:test"
PROGRAMS = ("sh", "sleep", "env", "cat", "id", "true")
ALONE = ["--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs"]
# Rootless: hides root's files in /run, as dockerd-rootless.sh does.
HIDE = 'rm -f /run/docker /run/containerd /run/xtables.lock; exec "$@"'
# A script of `canhazgpu run`: starts a container, says its id, and waits for the end of its input.
# `docker run --detach` says the id before it starts the container.
DETACHED = (
    'box=$(docker --host "unix://$0" run --detach --network=none "$@" busybox:test sleep 600) '
    '&& echo "$box"; cat'
)
NEEDED = {"dockerd": "docker.io", "docker": "docker.io (or docker-cli)", "busybox": "busybox-static"}
ROOTLESS = {"rootlesskit": "rootlesskit", "newuidmap": "uidmap"}

Serve = Callable[..., Daemon]  # Starts a service that queries a Docker daemon.


def unavailable(programs: dict[str, str] | None = None) -> str:
    """Return why no Docker daemon can run here; empty if one can."""
    if os.geteuid() != 0:
        return "only root may start a Docker daemon"
    missing = sorted({package for name, package in (programs or NEEDED).items() if not shutil.which(name)})
    return f"not installed: {', '.join(missing)}" if missing else ""


def busybox_tree(tar: tarfile.TarFile) -> None:
    """Write the files of an image with busybox."""
    folder = tarfile.TarInfo("bin")
    folder.type, folder.mode = tarfile.DIRTYPE, 0o755
    tar.addfile(folder)
    tar.add(str(shutil.which("busybox")), "bin/busybox")
    for name in PROGRAMS:
        link = tarfile.TarInfo(f"bin/{name}")
        link.type, link.linkname = tarfile.SYMTYPE, "busybox"
        tar.addfile(link)


def started(pid: int) -> int:
    """Return the pid of a container's first process, once that is the runtime's no longer."""
    assert pid, "the container does not run"
    until(lambda: b"\0HOSTNAME=" in b"\0" + Path(f"/proc/{pid}/environ").read_bytes(), 60)
    return pid


class Box(NamedTuple):
    """A running container; `pid` is that of its first process on the host."""

    id: str
    pid: int


class Dockerd:
    """A Docker daemon with all of its files in one directory."""

    def __init__(
        self, folder: Path, *options: str, person: Person | None = None, programs: Path | None = None
    ) -> None:
        """Start the daemon, rootless if `person` is given, and wait until it answers.

        It finds programs in the directory `programs` first.
        """
        self.folder = folder
        self.socket = str(folder / "d.sock")
        words = [
            "dockerd",
            *ALONE,
            *options,
            f"--data-root={folder / 'data'}",
            f"--exec-root={folder / 'exec'}",
            f"--pidfile={folder / 'pid'}",
            f"--host=unix://{self.socket}",
        ]
        first = f"{programs}:" if programs else ""
        environment = {**os.environ, "PATH": f"{first}{os.environ['PATH']}:/usr/sbin:/sbin"}
        if person:
            os.chown(folder, person.uid, person.gid)
            environment |= {"HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)}
            inside = ["rootlesskit", "--net=host", "--copy-up=/etc", "--copy-up=/run", "sh", "-c", HIDE, "sh"]
            become = ["setpriv", f"--reuid={person.uid}", f"--regid={person.gid}", "--clear-groups"]
            words = [*become, *inside, *words, "--rootless"]
        self._log = (folder / "dockerd.log").open("wb")
        self._words, self._environment = words, environment
        self._process = self._started()
        try:
            until(self._answers, 60)
            self.build(IMAGE)
        except BaseException:
            self.stop()
            raise

    def _started(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            self._words,
            env=self._environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )

    def restart(self) -> None:
        """End the daemon, which ends its containers, and start it again, as a boot does."""
        mode = Path(self.socket).stat().st_mode
        self._process.terminate()
        self._process.wait(60)
        self._process = self._started()
        until(self._answers, 60)
        Path(self.socket).chmod(mode & 0o777)

    def build(self, image: str, *changes: str) -> None:
        """Build an image; each of `changes` is a line of a Dockerfile."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            busybox_tree(tar)
        words = [word for change in changes for word in ("--change", change)]
        self.docker("import", *words, "-", image, stdin=packed.getvalue())

    def docker(self, *words: str, stdin: bytes = b"") -> str:
        """Run a `docker` command, and return its output."""
        done = subprocess.run(
            ["docker", "--host", f"unix://{self.socket}", *words],
            input=stdin,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()

    def start(self, *options: str, image: str = IMAGE) -> Box:
        """Start a container that sleeps."""
        name = self.docker("run", "--detach", "--network=none", *options, image, "sleep", "600")
        return Box(name, self.pid(name))

    def pid(self, name: str) -> int:
        """Return the host pid of a container's first process."""
        return started(int(json.loads(self.docker("inspect", name))[0]["State"]["Pid"]))

    def stop(self) -> None:
        """Stop the daemon and all of its containers."""
        if self._process.poll() is None:
            for name in self.docker("ps", "--quiet").split() if self._answers() else []:
                self.docker("rm", "--force", name)
            self._process.terminate()
            self._process.wait(60)
        self._log.close()

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self.folder / "dockerd.log").read_text()[-3000:]
        words = ["docker", "--host", f"unix://{self.socket}", "version"]
        return subprocess.run(words, capture_output=True, check=False, timeout=120).returncode == 0


@contextmanager
def dockerd(
    folder: Path, *options: str, person: Person | None = None, programs: Path | None = None
) -> Iterator[Dockerd]:
    """Run a daemon while the block runs."""
    if reason := unavailable(NEEDED | (ROOTLESS if person else {})):
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    try:
        made = Dockerd(folder, *options, person=person, programs=programs)
    except AssertionError as failed:
        if not person:
            raise
        pytest.skip(f"a rootless daemon does not run here: {str(failed).splitlines()[-1]}")
    try:
        yield made
    finally:
        made.stop()
