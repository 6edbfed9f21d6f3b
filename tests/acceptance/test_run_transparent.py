"""`run` is transparent: a command under it behaves as without it."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from support.daemon import Daemon, serving, until
from support.eventually import slowness
from support.forks import EXECUTED

RUN = [*EXECUTED, "run", "--gpus", "1", "--"]
OURS = {
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "NVIDIA_VISIBLE_DEVICES",
    "CANHAZGPU_RESERVATION",
    "CANHAZGPU_TOKEN",
}
SIGNALS = re.compile(r"^Sig(?:Blk|Ign|Cgt|Q):.*$|^Umask:.*$", re.MULTILINE)


@pytest.fixture(scope="module")
def host() -> Iterator[Daemon]:
    """One service for all tests of this module, which leave it as it was."""
    with serving(1) as daemon:
        yield daemon


def both(host: Daemon, *words: str, **options: object) -> "list[subprocess.CompletedProcess[bytes]]":
    """Run a command without and with `canhazgpu run`, in the same way."""
    free(host)
    return [
        subprocess.run([*before, *words], env=host.environment, capture_output=True, check=False, **options)  # type: ignore[call-overload]
        for before in ((), RUN)
    ]


def free(host: Daemon) -> None:
    """Wait until the GPU can be had."""
    until(lambda: "GPU 0: AVAILABLE" in host.status())


@pytest.mark.parametrize(
    "script",
    ["exit 0", "exit 7", "exit 255", "kill -9 $$", "kill -TERM $$", "kill -INT $$", "kill -PIPE $$"],
)
def test_the_end_is_the_same(host: Daemon, script: str) -> None:
    """Exit codes and deaths by signal reach the parent unchanged."""
    plain, run = both(host, "sh", "-c", script)
    assert (run.returncode, run.stdout, run.stderr) == (plain.returncode, plain.stdout, plain.stderr)


def test_pipes_are_whole(host: Daemon) -> None:
    """A megabyte of any bytes passes through standard input and output, separate from standard error."""
    data = os.urandom(1 << 20)
    plain, run = both(host, "sh", "-c", "cat; printf 'to err\\0' >&2", input=data)
    assert run.stdout == plain.stdout == data
    assert run.stderr == plain.stderr == b"to err\0"


def test_the_process_is_as_without_it(host: Daemon) -> None:
    """Signal dispositions, umask, open files and folder are the caller's."""
    script = "grep -E '^(Sig[^Q]|Umask)' /proc/self/status; ls -l /proc/self/fd | wc -l; pwd; ulimit -a"
    plain, run = both(host, "sh", "-c", script, umask=0o027, cwd=host.folder)
    assert run.stdout.decode() == plain.stdout.decode()


@pytest.mark.parametrize("locale", [{}, {"LC_ALL": "C"}, {"LC_CTYPE": "C.UTF-8"}, {"LANG": "C"}])
def test_only_our_variables_are_added(host: Daemon, locale: dict[str, str]) -> None:
    """The environment is the caller's with four more variables, which replace existing ones."""
    kept = {name: value for name, value in host.environment.items() if not name.startswith(("LC_", "LANG"))}
    environment = {**kept, **locale, "CUDA_VISIBLE_DEVICES": "5,6,7"}
    free(host)
    run = subprocess.run([*RUN, "env", "-0"], env=environment, capture_output=True, check=True)
    found = dict(entry.split("=", 1) for entry in run.stdout.decode().split("\0") if entry)
    assert {name: value for name, value in found.items() if name not in OURS} == {
        name: value for name, value in environment.items() if name not in OURS
    }
    assert found["CUDA_VISIBLE_DEVICES"] == "0"
    assert found["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert found["NVIDIA_VISIBLE_DEVICES"].startswith("GPU-")


def test_it_is_the_very_process(host: Daemon) -> None:
    """The command has the pid of `run`; there is no process in between."""
    free(host)
    process = subprocess.Popen([*RUN, "sh", "-c", "echo $$"], env=host.environment, stdout=subprocess.PIPE)
    assert int(process.communicate()[0]) == process.pid


def test_what_cannot_be_run_reserves_nothing() -> None:
    """A command that does not exist, or is no program, reserves nothing."""
    with serving(1) as unused:
        for name, code in (("no-such-command", 127), ("/etc/passwd", 126), ("/etc", 126)):
            done = unused.run("run", "--gpus", "1", "--", name)
            assert done.returncode == code, name
            assert done.stderr.count("\n") == 1, name
        assert "never reserved" in unused.status()


@pytest.mark.parametrize(
    ("text", "code"), [(b'echo "$0" "$@"; exit 3\n', 3), (b"\x7fELF nonsense", None), (b"", 0)]
)
def test_a_script_that_names_no_interpreter_is_the_shells(
    host: Daemon, text: bytes, code: int | None
) -> None:
    """A script without an interpreter line is run by the shell; a file that is no program frees its GPU."""
    path = host.folder / "script"
    path.write_bytes(text)
    path.chmod(0o755)
    words = [str(path), "a b"]
    plain = subprocess.run(["env", *words], env=host.environment, capture_output=True, check=False)
    free(host)
    run = subprocess.run([*RUN, *words], env=host.environment, capture_output=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (plain.returncode, plain.stdout, plain.stderr)
    assert code in (None, run.returncode)
    free(host)


def test_what_cannot_be_started_frees_its_gpu(host: Daemon) -> None:
    """If the kernel refuses to execute the command, the reservation ends."""
    path = host.folder / "broken"
    path.write_text("#!/no/such/interpreter\n")
    path.chmod(0o755)
    free(host)
    done = host.run("run", "--", str(path))
    assert (done.returncode, done.stderr.count("\n")) == (126, 1)
    free(host)


class Screen:
    """A terminal of a test's own, with a program in it."""

    def __init__(self, host: Daemon, *program: str) -> None:
        self.pid, self.master = pty.fork()
        if self.pid == 0:  # pragma: no cover - it becomes the program
            os.chdir(host.folder)  # There nohup(1) may write its file.
            os.execvpe(program[0], program, {**host.environment, "PS1": "ready> ", "TERM": "dumb"})  # noqa: S606
        self.text = ""

    def wait_for(self, pattern: str, seconds: float = 20) -> str:
        """Read until `pattern` is there; return what it matched, and forget what came before."""
        end = time.monotonic() + seconds * slowness()
        while not (found := re.search(pattern, self.text)):
            left = end - time.monotonic()
            assert left > 0, f"{pattern} is not in {self.text!r}"
            if select.select([self.master], [], [], left)[0]:
                self.text += os.read(self.master, 65536).decode("utf-8", "backslashreplace")
        self.text = self.text[found.end() :]
        return found[0]

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self.master, text.encode())

    def close(self) -> None:
        """Take the terminal away."""
        os.close(self.master)
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


@pytest.fixture
def shell(host: Daemon) -> Iterator[Screen]:
    """An interactive shell with job control."""
    screen = Screen(host, "bash", "--norc", "--noprofile", "-i")
    screen.wait_for("ready> ")
    screen.type("stty -echo\n")
    screen.wait_for("ready> ")
    yield screen
    screen.close()


LINE = " ".join(RUN) + " "
TRAPS = (
    f"{sys.executable} -c 'import signal,sys,time,os\n"
    'signal.signal(signal.SIGINT, lambda *a: (print("got", "INT", flush=True), sys.exit(9)))\n'
    'signal.signal(signal.SIGWINCH, lambda *a: print("size", *os.get_terminal_size(), flush=True))\n'
    'print("up", os.isatty(0), os.isatty(1), os.tcgetpgrp(0) == os.getpgrp(), flush=True)\n'
    "while True: time.sleep(60)'\n"
)


def test_a_terminal_belongs_to_the_command(shell: Screen, host: Daemon) -> None:
    """The command has the terminal, its size changes, and Ctrl-C."""
    free(host)
    shell.type(LINE + TRAPS)
    shell.wait_for("up True True True")
    fcntl.ioctl(shell.master, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
    shell.wait_for("size 77 33")
    shell.type("\x03")
    shell.wait_for("got INT")
    shell.wait_for("ready> ")
    shell.type("echo code $?\n")
    shell.wait_for("code 9")


def test_job_control_works(shell: Screen, host: Daemon) -> None:
    """Ctrl-Z stops the command and keeps the reservation, `fg` continues it, and kill ends it."""
    free(host)
    shell.type(LINE + TRAPS)
    shell.wait_for("up True True True")
    shell.type("\x1a")
    shell.wait_for("Stopped")
    shell.wait_for("ready> ")
    assert "GPU 0: IN USE by " in host.status()
    shell.type("fg\n")
    until(lambda: os.tcgetpgrp(shell.master) != shell.pid)  # Only then does it hear of the size.
    fcntl.ioctl(shell.master, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 60, 0, 0))
    shell.wait_for("size 60 20")
    shell.type("\x1a")
    shell.wait_for("Stopped")
    shell.type("kill -9 %1\n")
    free(host)


def test_ctrl_c_while_it_waits_leaves_the_queue(shell: Screen, host: Daemon) -> None:
    """Ctrl-C while waiting ends with 130, and leaves no reservation or request."""
    free(host)
    assert host.run("reserve", "--gpus", "1").returncode == 0
    shell.type(LINE.replace(" --gpus", " --new --wait --gpus") + "true\n")
    shell.wait_for("Position 1 since")
    shell.type("\x03")
    shell.wait_for("ready> ")
    shell.type("echo code $?\n")
    shell.wait_for("code 130")
    until(lambda: host.run("queue").stdout == "The queue is empty.\n")
    assert host.run("release").returncode == 0


def test_a_terminal_that_goes_away_ends_what_it_ends_without_it(host: Daemon) -> None:
    """A hang-up ends the command and its reservation; a command that ignores it continues."""
    free(host)
    screen = Screen(host, *RUN, "sh", "-c", "echo up; exec sleep 600")
    screen.wait_for("up")
    screen.close()
    free(host)
    screen = Screen(host, "nohup", *RUN, "sh", "-c", "exec sleep 600")
    until(lambda: "GPU 0: IN USE by" in host.status())
    os.close(screen.master)
    host.pass_scans()
    assert "GPU 0: IN USE by" in host.status()
    os.kill(screen.pid, signal.SIGKILL)
    os.waitpid(screen.pid, 0)
    free(host)
