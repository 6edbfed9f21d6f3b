"""Debian systems for tests: a minimal root directory made by debootstrap, and one that systemd boots."""

import contextlib
import os
import shutil
import signal
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.eventually import until

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "build" / "roots"  # Built once; each test unpacks a copy.
MIRROR = "http://deb.debian.org/debian"
NEEDED = ("debootstrap", "systemd-nspawn", "nsenter", "dpkg-deb")
UP = ("running", "degraded")  # Degraded: one of Debian's own units may fail on this host.
INIT = ["systemd", "systemd-sysv", "dbus", "procps", "logrotate", "man-db", "python3"]

# A mail server that accepts every message and stores it in /root/mail.
MAIL_SERVER = """
import socket
listener = socket.create_server(("127.0.0.1", 2525))
while True:
    link, _ = listener.accept()
    lines = link.makefile("r", newline="\\r\\n")
    link.sendall(b"220 lab\\r\\n")
    data = False
    for line in lines:
        open("/root/mail", "a").write(line)
        if data and line != ".\\r\\n":
            continue
        data = line.upper().startswith("DATA")
        code = b"354" if data else b"221" if line.upper().startswith("QUIT") else b"250"
        link.sendall(code + b" lab\\r\\n")
"""


def skip(reason: str) -> None:
    """Skip the test, or fail it in CI, where all tests have to run."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


class System:
    """A root directory with Debian, in which commands can be run."""

    def __init__(self, folder: Path) -> None:
        """Use an unpacked root directory."""
        self.folder = folder
        self._enter = ["chroot", str(folder)]

    def call(self, *words: str, check: bool = True, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command in the system as root."""
        done = subprocess.run(
            [*self._enter, *words],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            env={
                "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "DEBIAN_FRONTEND": "noninteractive",
                "LC_ALL": "C.UTF-8",
            },
        )
        assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done

    def shell(self, script: str) -> str:
        """Run a script in the system as root, and return its output."""
        return self.call("sh", "-euc", script).stdout

    def enter(self, pid: int) -> None:
        """Run later commands in the namespaces of the system's first process."""
        self._enter = ["nsenter", "--target", str(pid), "--all"]

    def path(self, path: str) -> Path:
        """Return the path on this host of a file in the system."""
        return self.folder / path.lstrip("/")


def unpacked(folder: Path, suite: str = "bookworm", *packages: str) -> System:
    """Unpack a minimal system with these packages. Build it first if necessary, or skip the test."""
    if os.geteuid() != 0:
        skip("only root can make a root directory")
    missing = [name for name in NEEDED if not shutil.which(name)]
    if missing:
        skip(f"not installed: {', '.join(missing)}")
    folder.mkdir()
    subprocess.run(["tar", "-C", folder, "-xf", _kept(suite, packages)], check=True)
    return System(folder)


def _kept(suite: str, packages: tuple[str, ...]) -> Path:
    """Return the archive of a system with these packages; make it from that of the minimal system."""
    name = f"{suite}-{zlib.crc32(' '.join(packages).encode()):x}" if packages else suite
    kept = KEPT / f"{name}.tar"
    if kept.exists():
        return kept
    KEPT.mkdir(parents=True, exist_ok=True)
    minimal = _kept(suite, ()) if packages else None
    new = KEPT / f"new-{os.getpid()}"
    try:
        if minimal:
            new.mkdir()
            subprocess.run(["tar", "-C", new, "-xf", minimal], check=True)
            System(new).call("apt-get", "update", "-qq")
            System(new).call("apt-get", "install", "-qq", "-y", "--no-install-recommends", *packages)
            System(new).call("apt-get", "clean")
        else:
            _bootstrap(suite, new)
        subprocess.run(["tar", "-C", new, "-cf", f"{kept}.new", "."], check=True)
        Path(f"{kept}.new").rename(kept)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return kept


def _bootstrap(suite: str, new: Path) -> None:
    """Make a minimal system, or skip the test where there is no network."""
    words = ["debootstrap", "--variant=minbase", suite, str(new), MIRROR]
    made = subprocess.run(words, capture_output=True, text=True, check=False)
    if made.returncode:
        skip(f"debootstrap cannot make {suite}: {made.stdout.splitlines()[-1:]}")


def _leader(manager: int) -> int:
    """Return the first process of the system that `manager` starts, or 0 if there is none yet.

    The first child of `manager` only creates the namespaces, and has ended when the system runs.
    """
    for child in Path(f"/proc/{manager}/task/{manager}/children").read_text().split():
        with contextlib.suppress(OSError):
            status = dict(
                line.split(":", 1) for line in Path(f"/proc/{child}/status").read_text().splitlines()
            )
            if status["NSpid"].split()[1:] == ["1"]:
                return int(child)
    return 0


@contextlib.contextmanager
def booted(system: System) -> Iterator[System]:
    """Boot the system with systemd and a private network; stop it at the end."""
    words = [
        "systemd-nspawn",
        "--quiet",
        "--register=no",
        "--keep-unit",
        "--private-network",
        "--console=pipe",
    ]
    with (system.folder.parent / "console").open("wb") as console:
        process = subprocess.Popen(
            [*words, "--boot", f"--directory={system.folder}"],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            start_new_session=True,
        )
    try:
        until(lambda: process.poll() is not None or _leader(process.pid), 30)
        if process.poll() is not None:
            skip(f"systemd-nspawn: {(system.folder.parent / 'console').read_text()[-300:]}")
        system.enter(_leader(process.pid))
        until(lambda: system.call("systemctl", "is-system-running", check=False).stdout.strip() in UP, 300)
        yield system
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
