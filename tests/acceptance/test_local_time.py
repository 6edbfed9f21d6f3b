"""Every command and notice shows local time with the zone's name; JSON and the log stay in UTC."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import COMMAND, Daemon, gpu, until, use
from support.people import Person, Terminal

KOLKATA = "IST-5:30"
SHOWN = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d(?::\d\d)?( \w+)?")


class Abroad(Daemon):
    """A host whose zone is not UTC."""

    zone = KOLKATA

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the service and of its commands."""
        return {**super().environment, "TZ": self.zone}


@pytest.fixture
def abroad(folder: Path) -> Iterator[Abroad]:
    """A service in India."""
    daemon = Abroad(folder).start()
    yield daemon
    daemon.stop()


def test_commands_show_the_zone_of_their_reader(abroad: Abroad) -> None:
    """Each time in a text has the zone of TZ, and none is in UTC; JSON has only UTC."""
    abroad.place(gpu(0, use(999_999, 1024, "bob", "python3")))
    until(abroad.facts)
    violation = abroad.facts()[0]["violation"]
    assert abroad.run("silence", "add", "--gpu", "0", "--for", "1h", "--reason", "r").returncode == 0
    words = [
        ("violations",),
        ("violations", "show", violation),
        ("events",),
        ("notify", "preview", "--violation", violation),
    ]
    for each in words:
        text = abroad.run(*each).stdout
        zones = set(SHOWN.findall(text))
        assert zones == {" IST"}, (each, text)
    for each in (("violations", "--json"), ("events", "--json")):
        text = abroad.run(*each).stdout
        assert re.search(r"T\d\d:\d\d:\d\d\.\d{3}Z", text)
        assert "IST" not in text
    assert "IST" not in (abroad.folder / "violations.log").read_text()


def test_a_wait_shows_local_time(abroad: Abroad) -> None:
    """Since when, and when its turn is expected."""
    assert abroad.run("reserve", "--gpus", "1", "--duration", "1h").returncode == 0
    waiting = subprocess.Popen(
        [*COMMAND, "reserve", "--wait"], env=abroad.environment, stderr=subprocess.PIPE, text=True
    )
    assert waiting.stderr
    line = waiting.stderr.readline()
    assert re.match(
        r"Waiting since \d\d:\d\d:\d\d IST, position 1, expected \d{4}-\d\d-\d\d \d\d:\d\d IST: ", line
    ), line
    assert " IST " in abroad.run("queue").stdout
    waiting.kill()
    waiting.wait()
    waiting.stderr.close()


def test_a_notice_has_the_zone_of_the_host(abroad: Abroad, people: list[Person]) -> None:
    """Whatever TZ its reader has."""
    bob = people[1]
    terminal = Terminal(bob)
    try:
        abroad.place(gpu(0, use(terminal.leader.pid, 1024)))
        until(lambda: re.search(r"since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d IST", terminal.text))
    finally:
        terminal.close()


def test_what_people_write_is_in_their_zone(abroad: Abroad) -> None:
    """`--since` takes a time of day, a day and a date; what lies in the future is refused as before."""
    abroad.place(gpu(0, use(999_999, 1024, "bob", "python3")))
    until(abroad.facts)
    for since in ("yesterday", "today", "2h", "2026-11-27 10:00", "2026-01-01"):
        for command in ("violations", "deliveries"):
            done = abroad.run(command, "--since", since)
            assert done.returncode == 0, done
        assert "bob" in abroad.run("violations", "--since", since).stdout, since
    done = abroad.run("violations", "--since", "2099-01-01 10:00")
    assert (done.returncode, done.stdout) == (2, "")
