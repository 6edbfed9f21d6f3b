"""A user whose uid is in another user's range of subordinate uids is that user, and nobody else."""

from pathlib import Path

import pytest
from support.daemon import Daemon, gpu, until, use
from support.people import Person, Terminal


def first_subordinate(person: Person) -> int:
    """Return the first subordinate uid of a user."""
    for line in Path("/etc/subuid").read_text().splitlines():
        name, first, _ = line.split(":")
        if name == person.name:
            return int(first)
    pytest.skip("useradd gives no subordinate uids here")


def test_a_number_with_a_name_is_that_user(host: Daemon, people: list[Person]) -> None:
    """Bob, whose directory gave him a number in Ada's range, is told of his use; then he reserves it."""
    ada, bob = people
    bob.set_uid(first_subordinate(ada) + 8472)
    terminals = [Terminal(ada), Terminal(bob)]
    try:
        process = bob.spawn("sleep", "600")
        host.place(gpu(0, use(process.pid, 900)))
        (fact,) = until(host.facts)
        assert (fact["person"], fact["uid"], fact["evidence"]) == (bob.name, bob.uid, "uid")
        until(lambda: "GPU 0" in terminals[1].text)
        assert terminals[0].text == ""
        assert host.run("reserve", person=ada).returncode == 1
        assert host.run("reserve", person=bob).returncode == 0
        until(lambda: host.facts()[-1].get("reason") == "reserved")
        until(lambda: f"GPU 0: IN USE by {bob.name} for" in host.status())
    finally:
        for terminal in terminals:
            terminal.close()
