"""The owner of a process whose root directory is not the host's, tested with real processes and users."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.daemon import until
from support.people import Person

from canhazgpu.events.gpu import ProcessReading
from canhazgpu.service.identity.attribution import Attributor
from canhazgpu.service.identity.process_facts import is_proven

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else")

# A process in another root directory whose parent stays on the host; it calls itself otherwise at SIGUSR1.
JAILED = """
import ctypes, os, signal, sys
uid, parents, session = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
rename = ctypes.CDLL(None).prctl
child = os.fork()
if child:
    os.setresuid(parents, parents, parents)
    print(child, flush=True)
    sys.stdin.read()
    os._exit(0)
if session == "own":
    os.setsid()
signal.signal(signal.SIGUSR1, lambda *_: rename(15, b"step 1"))
os.chroot("/usr")
os.setresuid(uid, uid, uid)
rename(15, b"step 0")
while True:
    signal.pause()
"""


@pytest.mark.parametrize(("parents", "session", "proven"), [(0, "", True), (0, "own", False), (1, "", False)])
def test_a_uid_in_a_tree_of_its_own_is_proven_by_parents_on_the_host(
    people: list[Person],
    parents: int,
    session: str,
    *,
    proven: bool,
) -> None:
    """As of Apptainer with its setuid helper: the same uid and session on both sides; it stays proven."""
    uid = people[0].uid
    words = [sys.executable, "-c", JAILED, str(uid), str(people[parents].uid), session]
    # The session that the tests were started in has no number if it began outside this PID namespace.
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        try:
            _follow(parent, pid, people[0], proven=proven)
        finally:
            os.kill(pid, signal.SIGKILL)


def _follow(parent: "subprocess.Popen[bytes]", pid: int, person: Person, *, proven: bool) -> None:
    comm, attributor = Path(f"/proc/{pid}/comm"), Attributor()
    for step in ("step 0", "step 1"):
        until(lambda name=step: comm.read_text() == f"{name}\n")  # type: ignore[misc]
        attributor.attribute(ProcessReading(pid=pid, memory_mb=1))
        attributor.users.wait(30)
        found = attributor.attribute(ProcessReading(pid=pid, memory_mb=1))
        assert found
        assert (found.name, found.program) == (step, None)
        if step == "step 0":  # Of a caller, it is read once.
            assert is_proven(Path("/proc"), f"/proc/{pid}", person.uid) == proven
        assert (found.person, found.uid) == ((person.name, person.uid) if proven else (None, None))
        assert parent.stdin
        parent.stdin.close()
        assert parent.wait(120) == 0  # What it proved stays proven.
        os.kill(pid, signal.SIGUSR1)
