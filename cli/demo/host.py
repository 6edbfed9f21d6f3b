"""The host of the demonstration: simulated GPUs, real processes, a real service, all in one folder."""

import errno
import os
import pty
import pwd
import select
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

GPUS = 8
OFFENDER = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_DFL); time.sleep(600)"
# Like a login shell: takes the terminal, starts a program in it, and stays after it ends.
SHELL = f"""
import fcntl, subprocess, sys, termios, time
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
program = subprocess.Popen([sys.executable, "-c", {OFFENDER!r}])
print(program.pid, flush=True)
program.wait()
time.sleep(600)
"""
CONFIG = """\
host = "demo"
socket = "{folder}/canhazgpu.sock"
state_dir = "{folder}/state"
[gpus]
provider = "simulated"
scenario = "{folder}/gpus.toml"
scan_interval = "500ms"
[violations]
confirm = "1s"
[notices]
group_wait = "1s"
resolve_hold = "500ms"
steps = [
  {{ channels = ["wall", "email", "log"], to = ["offender"] }},
  {{ channels = ["email"], to = ["admins"] }},
]
[notify.log]
path = "{folder}/violations.log"
[notify.email]
enabled = true
host = "127.0.0.1"
port = {port}
user_address = "{{user}}@example.com"
admins = ["gpu-admins@example.com"]
"""


class DemoFailed(Exception):
    """The demonstration failed; the message says which step."""


class DemoHost:
    """Everything the demonstration starts. Closing it ends every process and removes the folder."""

    def __init__(self) -> None:
        """Make the folder; nothing runs yet."""
        self.folder = Path(tempfile.mkdtemp(prefix="canhazgpu-demo-"))
        self.user = pwd.getpwuid(os.getuid()).pw_name
        self.offender: int | None = None
        self.master: int | None = None
        self._running: list[subprocess.Popen[bytes]] = []
        self._scene = ExitStack()  # The person and their program.
        self._closing = ExitStack()  # The service, and what it needs.
        self._closing.callback(shutil.rmtree, self.folder, ignore_errors=True)

    @property
    def config(self) -> Path:
        """The settings file of the service."""
        return self.folder / "config.toml"

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which commands use this service and no other."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CANHAZGPU_")}
        return {**kept, "CANHAZGPU_CONFIG": str(self.config)}

    def start(self) -> None:
        """Start the mail server and the service; return when the service answers."""
        (self.folder / "mail").mkdir()
        log = (self.folder / "service.log").open("wb")
        self._closing.callback(log.close)
        sink = self._spawn(
            "canhazgpu.cli.demo.mail_sink", str(self.folder / "mail"), stdout=subprocess.PIPE, stderr=log
        )
        port = sink.stdout.readline().decode().strip() if sink.stdout else ""
        self.config.write_text(CONFIG.format(folder=self.folder, port=port))
        self.set_gpu_use({})
        service = self._spawn("canhazgpu.cli.main", "serve", stdout=log, stderr=log)

        def answers() -> bool:
            if service.poll() is not None:
                last = (self.folder / "service.log").read_text().strip().splitlines()[-1:]
                message = f"the service did not start: {''.join(last)}"
                raise DemoFailed(message)
            return self.command("status").returncode == 0

        self.wait(answers, 15, "the service answers")

    def _spawn(self, module: str, *args: str, **streams: object) -> "subprocess.Popen[bytes]":
        process: subprocess.Popen[bytes] = subprocess.Popen(  # type: ignore[call-overload]
            [sys.executable, "-m", module, *args],
            stdin=subprocess.DEVNULL,
            env=self.environment,
            start_new_session=True,
            **streams,
        )
        self._running.append(process)
        self._closing.callback(_end, process)
        return process

    def command(self, *args: str) -> "subprocess.CompletedProcess[str]":
        """Run `canhazgpu ARGS` against this service and return what it printed."""
        return subprocess.run(
            [sys.executable, "-m", "canhazgpu.cli.main", *args],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def set_gpu_use(self, memory_mb: dict[int, int]) -> None:
        """Write the scenario, in which the offender uses `memory_mb[gpu]` MiB of each GPU in it."""
        parts = []
        for index in range(GPUS):
            parts.append(
                f'[[gpus]]\nindex = {index}\nname = "NVIDIA H100 80GB HBM3"\n'
                f"memory_total_mb = 81559\nmemory_used_mb = 45\n"
            )
            if index == GPUS - 2:
                parts.append('[[gpus.processes]]\npid = 1\nmemory_mb = 150\nuser = "root"\nname = "Xorg"\n')
            if index == GPUS - 1:
                parts.append('error = "GPU_IS_LOST"\n')
            if index in memory_mb and self.offender:
                parts.append(
                    f"[[gpus.processes]]\npid = {self.offender}\n"
                    f'memory_mb = {memory_mb[index]}\nuser = "{self.user}"\n'
                )
        new = self.folder / "gpus.toml.new"
        new.write_text("\n".join(parts))
        new.rename(self.folder / "gpus.toml")

    def offend(self) -> None:
        """Start a real process, in its own terminal if this one does not accept messages."""
        if takes_messages():
            program = subprocess.Popen([sys.executable, "-c", OFFENDER], stdin=subprocess.DEVNULL)
            self._scene.callback(_end, program)
            self.offender = program.pid
            return
        self.master, slave = pty.openpty()
        self._scene.callback(os.close, self.master)
        os.fchmod(slave, 0o620)  # What `mesg y` does.
        shell = subprocess.Popen(
            [sys.executable, "-c", SHELL],
            stdin=slave,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._scene.callback(_end, shell)
        os.close(slave)
        self.offender = int(shell.stdout.readline()) if shell.stdout else None

    def stop_offending(self) -> None:
        """End the process, as a person would with Ctrl-C."""
        if self.offender:
            os.kill(self.offender, signal.SIGINT)

    def terminal_text(self) -> str:
        """Return the output of the offender's terminal since the last call."""
        if self.master is None:
            return ""
        text = b""
        while select.select([self.master], [], [], 0)[0]:
            try:
                text += os.read(self.master, 65536)
            except OSError as error:
                if error.errno == errno.EIO:  # Its last process has ended.
                    break
                raise
        return text.decode("utf-8", "backslashreplace").replace("\a", "")

    def wait(self, condition: Callable[[], bool], seconds: float, what: str) -> float:
        """Wait until `condition()`; return how long it took. Raises DemoFailed after `seconds`."""
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > seconds:
                message = f"timed out after {seconds:g} s waiting until {what}"
                raise DemoFailed(message)
            time.sleep(0.05)
        return time.monotonic() - began

    def keep(self) -> list[int]:
        """Leave the service running; return the ids of its processes."""
        self._closing.pop_all()
        return [process.pid for process in self._running]

    def close(self) -> None:
        """End all processes and remove the folder."""
        self._scene.close()
        self._closing.close()


def takes_messages() -> bool:
    """Return whether this process has a terminal that belongs to its user and accepts messages."""
    try:
        with Path("/dev/tty").open("rb") as terminal:
            name = os.ttyname(terminal.fileno())
    except OSError:
        name = os.ttyname(1) if os.isatty(1) else ""
    with suppress(OSError):
        facts = Path(name).stat()
        return facts.st_uid == os.getuid() and bool(facts.st_mode & stat.S_IWGRP)
    return False


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout:
        process.stdout.close()
