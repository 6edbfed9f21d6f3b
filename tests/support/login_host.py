"""A host of its own for login shells: a private /etc, with Debian's cron, sudo and SSH server."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import COMMAND, PATIENCE, Daemon
from support.eventually import until
from support.programs import need

TOP = Path(__file__).parents[2] / "build" / "shells"
# The namespace lasts as long as this process, which waits for the end of its input.
PRIVATE = """
set -eu
mount -t tmpfs tmpfs "$1/etc"
# Another test that creates or removes a user at this moment replaces files and removes its locks.
for attempt in $(seq 50); do
    cp -a /etc/. "$1/etc" 2> "$1/copy" && break
done
mount --bind "$1/etc" /etc
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/spool
mkdir -p /run/sshd /var/spool/cron/crontabs /etc/canhazgpu /etc/sudoers.d /etc/zsh /etc/profile.d
echo 'sshd:x:98:65534::/run/sshd:/usr/sbin/nologin' >> /etc/passwd
sed -i "s#^root:.*#root:*:0:0:root:$1/home:/bin/bash#" /etc/passwd
cp "$1/config.toml" /etc/canhazgpu/config.toml
echo "PATH=$1/bin:\\$PATH" > /etc/profile.d/a-path.sh
echo "PATH=$1/bin:\\$PATH" > /etc/zsh/zprofile
if [ -e "$2" ]; then
    cp "$2/etc/sudoers" /etc/sudoers
    chmod 440 /etc/sudoers
    cp "$2/etc/pam.d/cron" "$2/etc/pam.d/sudo" "$2/etc/pam.d/sudo-i" /etc/pam.d/
    echo "Path plugin_dir $2/usr/libexec/sudo/" > /etc/sudo.conf
    ssh-keygen -q -t ed25519 -N '' -f "$1/key" || true
fi
echo ready
cat
"""
SSHD = "HostKey {0}/key\nAuthorizedKeysFile {0}/key.pub\nStrictModes no\nUsePAM no\nPidFile none\n"


class LoginHost:
    """Runs programs as root in a mount namespace of its own, in the environment of a fresh machine."""

    def __init__(self, daemon: Daemon) -> None:
        """Start the namespace."""
        self.daemon, self.folder = daemon, daemon.folder
        for name in ("etc", "home", "bin"):
            (self.folder / name).mkdir()
        for name in ("canhazgpu", "chg"):
            program = self.folder / "bin" / name
            program.write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
            program.chmod(0o755)
        words = ["unshare", "--mount", "--propagation", "private", "bash", "-c", PRIVATE, "-"]
        self._holder = subprocess.Popen(
            [*words, str(self.folder), str(TOP)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._holder.stdout
        assert self._holder.stdout.readline() == "ready\n", (self.folder / "copy").read_text()

    def words(self, *program: str) -> list[str]:
        """Return the command line of a program in this namespace."""
        return ["nsenter", "--mount", f"--target={self._holder.pid}", f"--wd={self.folder}", *program]

    def environment(self, **more: str) -> dict[str, str]:
        """Return what a login has before its shell reads anything."""
        return {"PATH": "/usr/bin:/bin", "HOME": str(self.folder / "home"), "TERM": "xterm", **more}

    def run(self, *program: str, typed: str = "", **more: str) -> "subprocess.CompletedProcess[str]":
        """Run a program with these variables, and with `typed` as its standard input."""
        return subprocess.run(
            self.words(*program),
            env=self.environment(**more),
            input=typed,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

    def sudo(self, *words: str) -> str:
        """Return shell code that runs Debian's sudo."""
        unpacked()
        top = shlex.quote(str(TOP))
        return f"LD_LIBRARY_PATH={top}/usr/libexec/sudo {top}/usr/bin/sudo -n {shlex.join(words)}"

    def ssh(self, *command: str, typed: str = "") -> "subprocess.CompletedProcess[str]":
        """Run a command over SSH, or a login shell, on a server that this connection starts."""
        unpacked()
        need("ssh")
        settings = self.folder / "sshd.conf"
        settings.write_text(SSHD.format(self.folder))
        libraries = ":".join(map(str, TOP.glob("usr/lib/*-linux-gnu")))
        server = f"env LD_LIBRARY_PATH={libraries} {TOP}/usr/sbin/sshd -i -f {settings}"
        known = [
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "LogLevel=ERROR",
        ]
        words = ["ssh", "-F", "none", "-i", str(self.folder / "key"), *known]
        return self.run(*words, "-o", f"ProxyCommand={server}", "root@here", *command, typed=typed)

    def cron(self, code: str, result: Path) -> str:
        """Return the file `result`, which a job of Debian's cron writes when that starts."""
        unpacked()
        table = shlex.quote(f"@reboot {code}")
        place = "/var/spool/cron/crontabs/root"
        assert (
            self.run("sh", "-c", f"echo {table} > {place}; chmod 600 {place}; rm -f /run/crond*").returncode
            == 0
        )
        words = self.words(str(TOP / "usr/sbin/cron"), "-f")
        with subprocess.Popen(words, env=self.environment(CUDA_VISIBLE_DEVICES="1")) as cron:
            try:
                until(result.exists, 60)
            finally:
                cron.terminate()
        return result.read_text()

    def close(self) -> None:
        """End the namespace."""
        self._holder.communicate()


def unpacked() -> None:
    """Skip the test where the programs are missing that tests/shells/install unpacks."""
    if not TOP.exists():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("`tests/shells/install` has not unpacked sudo")


@pytest.fixture(scope="module")
def login_host(lasting_host: Daemon) -> Iterator[LoginHost]:
    """A host whose login shells hide the GPUs, as `canhazgpu install profile` has set it up."""
    if os.geteuid() or sys.platform != "linux":
        pytest.skip("a private /etc needs root")
    made = LoginHost(lasting_host)
    done = made.run(*COMMAND, "install", "profile")
    assert done.returncode == 0, done
    (command,) = [
        line.partition(": ")[2] for line in done.stdout.splitlines() if line.startswith("Next, for zsh")
    ]
    assert made.run("sh", "-c", command).returncode == 0
    yield made
    made.close()
