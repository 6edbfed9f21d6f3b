"""What `events --group` refuses, and to whom."""

import pytest
from support.daemon import Daemon
from support.people import Person
from support.shell_consumer import GROUP, STREAM, WORDS


def test_other_users_are_refused(host: Daemon, people: list[Person]) -> None:
    """In one line that says who may, and what to do instead; no group is created."""
    done = host.run(*WORDS, person=people[0])
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: --group: only root and the user that the service runs as can open")
    assert done.stderr.endswith("; without --group, every user can follow events\n")
    assert done.stderr.count("\n") == 1
    with host.redis() as client:
        assert GROUP.encode() not in [one["name"] for one in client.xinfo_groups(STREAM)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--group", "g"), "--group needs --follow, because a group is read until Ctrl-C"),
        (("-f", "--group", "g", "--since", "1d"), "--since and --group cannot be used together"),
        (("-f", "--group", "g", "-n", "3"), "-n and --group cannot be used together"),
        (("-f", "--group", "g", "--user", "bob"), "--user and --group cannot be used together"),
        (("-f", "--group", "g", "--after", "0"), "--after and --group cannot be used together"),
        (("-f", "--exec", "true"), "--exec needs --group NAME"),
        (("-f", "--dead-letters", "x"), "--dead-letters needs --group NAME"),
        (("-f", "--group", "g", "--attempts", "3"), "--attempts needs --exec COMMAND"),
        (("-f", "--group", "g", "--exec", "true", "--json"), "the program always gets JSON"),
        (("-f", "--group", "g", "--exec", "true", "--attempts", "0"), "--attempts: 0 is out of range"),
        (("-f", "--group", "dispatcher"), "--group: the service itself uses the name 'dispatcher'"),
        (("-f", "--group", "log", "--stream", "notices"), "--group: the channel log uses this name"),
        (("-f", "--group", "g", "--stream", "event"), "there is no event: use events, violations, ledger"),
        (("-f", "--group", "g", "--begin", "now"), "there is no now: use oldest or newest"),
        (("-f", "--group", "g", "--name", "a\nb"), "--name: 'a\\nb' has a character that cannot be printed"),
        (("-f", "--group", "g", "--type", "violatio"), "--type: there is no event type violatio"),
        (("-f", "--group", "g", "--exec", " "), "the value is empty"),
    ],
)
def test_mistakes(lasting_host: Daemon, words: tuple[str, ...], said: str) -> None:
    """Each gets one line, and the exit code of incorrect usage."""
    done = lasting_host.run("events", *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert said in done.stderr


def test_a_file_that_cannot_be_written_is_told_at_the_start(lasting_host: Daemon) -> None:
    """Not when the first event fails."""
    done = lasting_host.run(*WORDS, "--dead-letters", "/nonexistent/letters")
    assert (done.returncode, done.stderr) == (
        1,
        "Error: --dead-letters: /nonexistent/letters: No such file or directory\n",
    )
