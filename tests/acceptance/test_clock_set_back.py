"""A clock that is set back makes nobody's containers older than their reservation."""

import json
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import Daemon, gpu, until, use
from support.people import Person

SOURCE = Path(__file__).parents[2] / "bench" / "faults" / "clock.c"
HOUR = 3600


class Clock:
    """The time of day of a service, its Redis and its commands."""

    def __init__(self, folder: Path) -> None:
        """Build it; it is right."""
        self._library, self._file = folder / "clock.so", folder / "clock"
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", self._library, SOURCE, "-ldl"], check=True)
        self._file.write_bytes(struct.pack("q", 0))

    @property
    def environment(self) -> dict[str, str]:
        """What makes a process look at it."""
        return {"LD_PRELOAD": str(self._library), "CLOCK_SHIFT": str(self._file)}

    def set_back(self, seconds: int) -> None:
        """Set it, as an administrator or a time server does."""
        with self._file.open("r+b", buffering=0) as file:
            file.write(struct.pack("q", -seconds))


@pytest.fixture
def clock(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that every command of this test looks at."""
    made = Clock(folder)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def timed(clock: Clock, folder: Path) -> Iterator[Daemon]:
    """A service on this clock."""
    del clock
    daemon = Daemon(folder).start()
    yield daemon
    daemon.stop()


@pytest.mark.parametrize("restarted", [False, True])
def test_what_starts_after_the_clock_was_set_back_is_presumed(
    timed: Daemon, clock: Clock, people: list[Person], *, restarted: bool
) -> None:
    """A process of a service that started on Alice's GPU after she reserved it is presumed to be hers."""
    if os.geteuid() != 0:
        pytest.skip("a process whose user is not proven is one of root's")
    old = subprocess.Popen(["sleep", "600"])
    timed.place(gpu(0), gpu(1))
    until(lambda: "GPU 1: AVAILABLE" in timed.status())
    assert timed.run("reserve", "--gpu-ids", "0", person=people[0]).returncode == 0
    clock.set_back(HOUR)
    new = subprocess.Popen(["sleep", "600"])
    try:
        if restarted:
            timed.stop()
            timed.start()
        timed.place(gpu(0, use(new.pid, 900)), gpu(1, use(old.pid, 900)))
        until(lambda: json.loads(timed.run("status", "--json").stdout)[1]["violations"])
        (row, _) = json.loads(timed.run("status", "--json").stdout)
        assert ([one["pid"] for one in row["presumed"]], row["violations"]) == ([new.pid], [])
    finally:
        for process in (old, new):
            process.kill()
            process.wait()
