"""The service is killed around the change of an ACL: after a restart, files and reservations agree."""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import COMMAND, Daemon, gpu, until
from support.device_files import DeviceFolder, Opener, devices
from support.people import Person

from canhazgpu.client import Client

__all__ = ["devices"]
KILLS = int(os.environ.get("ENFORCEMENT_KILLS", "8"))
SERVE = """
import os, signal, sys
from pathlib import Path

change = os.setxattr
trap = Path(__file__).with_name("trap")

def killed(*words, **options):
    when = trap.read_text() if trap.exists() else ""
    if when == "after":
        change(*words, **options)
    if when:
        os.kill(os.getpid(), signal.SIGKILL)
    change(*words, **options)

os.setxattr = killed
from canhazgpu.cli.main import main
sys.exit(main())
"""


class Mortal(Daemon):
    """A service that is killed just before or just after it changes an ACL, once a trap is set."""

    @property
    def serve(self) -> list[str]:
        """The command that starts it."""
        program = self.folder / "serve.py"
        program.write_text(SERVE)
        return [sys.executable, str(program)]

    def die(self, when: str, words: list[str]) -> None:
        """Set the trap, run a command, and return when the service is dead and the command has ended."""
        assert self.process
        trap = self.folder / "trap"
        trap.write_text(when)
        command = subprocess.Popen(
            words, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.process.wait(120)
        trap.unlink()
        command.kill()
        command.wait()

    def held(self, person: Person) -> set[int]:
        """Return the GPUs that a person holds."""
        rows = Client(str(self.folder / "s")).status()
        return {row["gpu_id"] for row in rows if (row["reservation"] or {}).get("user") == person.name}


@pytest.fixture
def mortal(folder: Path, devices: DeviceFolder) -> Iterator[Mortal]:
    """A service on four GPUs, which owns their files."""
    daemon = Mortal(folder, devices.settings)
    daemon.place(*(gpu(index, memory_used_mb=45) for index in range(4)))
    daemon.start()
    yield daemon
    daemon.stop()


def test_a_kill_around_the_change_of_an_acl_opens_no_gpu_to_others(
    mortal: Mortal, devices: DeviceFolder, people: list[Person]
) -> None:
    """After each kill and restart, every user opens exactly the GPUs that they hold."""
    chance = random.Random(20261130)
    with Opener(people[0], devices) as first, Opener(people[1], devices) as second:
        openers = (first, second)
        for kill in range(KILLS):
            until(lambda: first.opens == mortal.held(people[0]) and second.opens == mortal.held(people[1]))
            who = chance.choice(people)
            held = sorted(mortal.held(who))
            free = sorted({0, 1, 2, 3} - set().union(*map(mortal.held, people)))
            verb, index = ("release", held[0]) if not free or (held and kill % 2) else ("reserve", free[0])
            words = who.command(*COMMAND, verb, "--gpu-ids", str(index))
            mortal.die(chance.choice(["before", "after"]), words)
            mortal.start()
            for person, opener in zip(people, openers, strict=True):
                until(lambda person=person, opener=opener: opener.opens == mortal.held(person))  # type: ignore[misc]
