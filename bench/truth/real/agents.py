"""Real processes of the lab: a shell that does as it is told, as each kind of process there is."""

import ctypes
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from bench.truth.real.people import Person

PR_SET_CHILD_SUBREAPER = 36
LAST_PID = Path("/proc/sys/kernel/ns_last_pid")
ATTEMPTS = 20  # To get a pid that others of this host may take first.
PATIENCE = 20.0  # Seconds for an answer of a process of ours.
SERVICE_UID = 1
EXEMPT = "/usr/bin/tail"  # Root's own program, exempt in the lab's settings.
SCRIPT = """
echo "ready ${CANHAZGPU_RESERVATION:--} ${CUDA_VISIBLE_DEVICES:--} $$"
while read -r verb word; do
  case "$verb" in
    fork) sleep 3600 & echo "$!" ;;
    name) echo "$word" > /proc/self/comm; echo done ;;
    reap) wait "$word" 2>/dev/null; echo done ;;
    run) exec "$word" -f /dev/null ;;
  esac
done
"""
AGENT = ("sh", "-c", SCRIPT)
JOIN = 'd=$(printf "$0" "$$" 0); mkdir -p "$d" && echo "$$" > "$d/cgroup.procs" && exec "$@"'


ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


class Gone(Exception):
    """The process has ended, or does not answer."""


class Agent:
    """A process of ours that forks, renames itself and becomes another program when told."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str] = ENVIRONMENT) -> None:
        """Start it."""
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=environment,
            bufsize=0,
        )
        self._read = b""
        self.pid = self._process.pid
        self.has_ended = False

    def line(self, patience: float = PATIENCE) -> str | None:
        """Return its next line, None when there is none in so many seconds. Raises Gone."""
        deadline = time.monotonic() + patience
        if self._process.stdout is None:
            raise Gone
        while b"\n" not in self._read:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self._process.stdout], [], [], left)[0]:
                return None
            more = os.read(self._process.stdout.fileno(), 4096)
            if not more:
                raise Gone
            self._read += more
        line, _, self._read = self._read.partition(b"\n")
        return line.decode()

    def ask(self, *words: str) -> str:
        """Tell it something; return what it answers. Raises Gone."""
        try:
            self.tell(*words)
            answer = self.line()
        except OSError as error:
            raise Gone from error
        if answer is None:
            raise Gone
        return answer

    def tell(self, *words: str) -> None:
        """Tell it something it does not answer."""
        if self._process.stdin:
            self._process.stdin.write(f"{' '.join(words)}\n".encode())

    def end(self) -> None:
        """Kill it, and free its pid."""
        self.has_ended = True
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()


class Kinds:
    """What kinds of processes can be made on this host, and how."""

    def __init__(self, folder: Path, people: Sequence[Person]) -> None:
        """Find out; who is not there is named in `left_out` with the reason."""
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # Orphans' pids are ours to free.
        self._folder = folder
        self._image_user = people[0]  # Whose uid an image chose: that points to nobody.
        self._cgroups = _cgroups()
        self.left_out: dict[str, str] = {}
        self.made = ["plain", "exempt", "disguised", "rootless"]
        self._add("sudo", None if _loginuid() else "no audit login uid in this kernel")
        self.reuses_pids = os.access(LAST_PID, os.W_OK)
        if not self.reuses_pids:
            self.left_out["pids reused"] = f"{LAST_PID} cannot be written"
        self._add("container", None if self._cgroups else "no cgroups may be made here")
        self._add("container-uid", None if self._cgroups else "no cgroups may be made here")
        self._add("slice", None if self._cgroups else "no cgroups may be made here")
        for person in people:
            own = folder / person.name
            own.mkdir()
            (own / "tail").write_bytes(Path(EXEMPT).read_bytes())
            (own / "tail").chmod(0o755)
            os.chown(own / "tail", person.uid, person.gid)
            os.chown(own, person.uid, person.gid)

    def _add(self, kind: str, why_not: str | None) -> None:
        if why_not:
            self.left_out[kind] = why_not
        else:
            self.made.append(kind)

    def start(self, kind: str, person: Person, pid: int | None, hint: str) -> Agent:
        """Start a process of a kind, if it can be with this pid; `hint` is its user by its environment.

        Raises Gone.
        """
        words = self._words(kind, person)
        for _ in range(ATTEMPTS):
            with suppress(OSError):
                if pid is not None:
                    LAST_PID.write_text(str(pid - 1))
            agent = Agent(words, ENVIRONMENT | ({"USER": hint} if hint else {}))
            if pid in (None, agent.pid) or Path(f"/proc/{pid}").exists():
                break
            agent.end()
        if agent.line() is None:
            agent.end()
            raise Gone
        if kind == "disguised":
            agent.tell("run", f"{self._folder}/{person.name}/tail")
            self._wait_for(agent, "tail")
        elif kind == "exempt":
            agent.tell("run", EXEMPT)
            self._wait_for(agent, "tail")
        return agent

    def _words(self, kind: str, person: Person) -> list[str]:
        if kind == "exempt":
            return list(AGENT)
        if kind == "sudo":
            return person.sudo_words(*AGENT)
        if kind == "rootless":
            inside = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"]
            mapped = ["unshare", "--user", "--map-root-user", "--map-auto", *inside]
            return person.plain_words(*(mapped if _subuids(person) else mapped[:3]), *AGENT)
        if kind in ("container", "container-uid"):
            as_somebody = self._image_user.plain_words() if kind == "container-uid" else []
            return self._in(f"{self._cgroups}/docker-%012x%052d.scope", *as_somebody, *AGENT)
        if kind == "slice":
            uid = f"user-{person.uid}.slice"
            service = ["setpriv", f"--reuid={SERVICE_UID}", f"--regid={SERVICE_UID}", "--clear-groups"]
            return self._in(f"{self._cgroups}/user.slice/{uid}/session-%d.scope%.0s", *service, *AGENT)
        return person.plain_words(*AGENT)

    @staticmethod
    def _in(cgroup: str, *program: str) -> list[str]:
        return ["sh", "-c", JOIN, cgroup, *program]

    @staticmethod
    def _wait_for(agent: Agent, program: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while Path(f"/proc/{agent.pid}/comm").read_text().strip() != program:
            if time.monotonic() > deadline:
                raise Gone
            time.sleep(0.001)

    def clean(self) -> None:
        """Remove the cgroups that were made."""
        if self._cgroups:
            slices = self._cgroups / "user.slice"
            made = [*self._cgroups.glob("docker-*.scope"), *slices.glob("*/*.scope")]
            for cgroup in [*made, *slices.glob("user-*.slice"), slices]:
                with suppress(OSError):
                    cgroup.rmdir()


def kill(pid: int) -> None:
    """Kill a process by its pid."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def reap(pid: int) -> None:
    """Free the pid of an orphan, which is ours by now."""
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)


def _cgroups() -> Path | None:
    """Return where cgroups can be made at the root of what this host shows of them."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, folder, kind, *_ = line.split()
        if kind == "cgroup2":
            probe = Path(folder) / f"truth-{os.getpid()}"
            with suppress(OSError):
                probe.mkdir()
                try:
                    subprocess.run(["sh", "-c", 'echo $$ > "$0/cgroup.procs"', probe], check=True)
                finally:
                    probe.rmdir()
                return Path(folder)
    return None


def _loginuid() -> bool:
    return subprocess.run(["sh", "-c", "echo 1 > /proc/self/loginuid"], check=False).returncode == 0


def _subuids(person: Person) -> bool:
    found = Path("/etc/subuid").read_text().splitlines() if Path("/etc/subuid").exists() else []
    helper = any(os.access(f"{folder}/newuidmap", os.X_OK) for folder in os.environ["PATH"].split(":"))
    return helper and any(line.startswith(f"{person.name}:") for line in found)
