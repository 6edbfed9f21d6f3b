"""An invalid value of an option is refused before the service is asked, and the option is named."""

import json
from pathlib import Path

import pytest
from support.daemon import Daemon, gpu, until, use
from support.exit_codes import code_of

LONG = "x" * 100_000
FOR = ("--for", "1h", "--reason", "r")


@pytest.fixture
def nowhere(folder: Path) -> Daemon:
    """A host without a running service, so that a request would end with another exit code."""
    return Daemon(folder)


def refusal(host: Daemon, *words: str) -> str:
    """Return the one line of a usage error."""
    done = host.run(*words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code_of(words, 2), "", 1), done
    assert done.stderr.startswith("Error: ")
    assert len(done.stderr) < 500
    return done.stderr


@pytest.mark.parametrize(
    ("words", "option", "most"),
    [
        (("silence", "add", "--user", "bob", "--for", "1h", "--reason", LONG), "--reason", 200),
        (("silence", "add", "--user", "bob", "--for", "1h", "--reason", "x" * 201), "--reason", 200),
        (("silence", "add", *FOR, "--process", "x" * 300), "--process", 64),
        (("silence", "add", *FOR, "--user", "x" * 65), "--user", 64),
        (("silence", "add", "--user", "bob", "--reason", "r", "--for", "0s1h" * 100), "--for", 200),
        (("silence", "ack", "--reason", LONG), "--reason", 200),
        (("reserve", "--note", LONG), "--note", 200),
        (("reserve", "--user", "x" * 65), "--user", 64),
        (("reserve", "--duration", "0s1h" * 100), "--duration", 200),
        (("run", "--note", LONG, "--", "true"), "--note", 200),
        (("admin", "drain", "0", "--reason", LONG), "--reason", 200),
        (("admin", "release", "--user", LONG), "--user", 64),
        (("violations", "--user", LONG), "--user", 64),
        (("notify", "test", "--channel", "wall", "--to", LONG), "--to", 200),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_is_too_long_is_named(nowhere: Daemon, words: tuple[str, ...], option: str, most: int) -> None:
    """A text that is too long is refused with the limit."""
    said = refusal(nowhere, *words)
    assert option in said
    assert f"characters; the limit is {most}" in said


def test_what_is_just_short_enough_is_asked(nowhere: Daemon) -> None:
    """A text may have as many characters as the service accepts, whatever their bytes."""
    done = nowhere.run("silence", "add", "--for", "1h", "--reason", "ü" * 200, "--process", "ü" * 64)
    assert done.returncode == 3, done


@pytest.mark.parametrize(
    "words",
    [
        ("log", "verify", ""),
        ("log", "verify", " "),
        ("config", "check", ""),
        ("notify", "test", "--channel", "wall", "--to", ""),
        ("notify", "test", "--channel", ""),
        ("notify", "preview", "--kind", ""),
        ("notify", "preview", "--audience", ""),
        ("notify", "preview", "--channel", ""),
        ("notify", "preview", "--violation", ""),
        ("violations", "show", ""),
        ("events", "--after", ""),
        ("events", "--type", ""),
        ("deliveries", "--since", ""),
        ("worker", "--name", ""),
    ],
    ids=" ".join,
)
def test_what_is_empty_is_no_value(nowhere: Daemon, words: tuple[str, ...]) -> None:
    """An empty value is refused; in a script it is usually a variable that was not set."""
    (nowhere.folder / "violations.log").touch()
    refusal(nowhere, *words)


@pytest.mark.parametrize("name", ["v²", "v\u0661", "v-1", "v1--2", "v1-2-3", "v" + "1" * 20, "v1\n"])
def test_an_id_of_a_violation_has_digits_as_in_ascii(nowhere: Daemon, name: str) -> None:
    """The id of a violation is refused unless its digits are ASCII and it has the right form."""
    for words in (("violations", "show"), ("notify", "preview", "--violation")):
        assert "is not the id of a violation" in refusal(nowhere, *words, name)


@pytest.mark.parametrize("name", ["²", "1-²", "1-", "-1", "1" * 20])
def test_an_id_of_a_dead_letter_has_digits_as_in_ascii(nowhere: Daemon, name: str) -> None:
    """The id of a dead letter is refused unless its digits are ASCII and it has the right form."""
    assert "deadletters list" in refusal(nowhere, "deadletters", "replay", "--", name)


def test_a_log_whose_name_is_too_long_is_called_by_it(nowhere: Daemon) -> None:
    """A file whose name is too long is refused by that name, not by the head file's."""
    for length in (251, 300):
        name = "v" * length
        said = refusal(nowhere, "log", "verify", f"/{name}")
        assert said.startswith("Error: /vvv")
        assert "File name too long" in said


def test_who_has_no_account_is_silenced_with_a_hint(host: Daemon) -> None:
    """A silence for a user without an account is accepted with a note."""
    words = ("silence", "add", *FOR, "--user")
    done = host.run(*words, "nosuch\x1buser")
    assert done.returncode == 0
    assert done.stderr == (
        "Note: there is no account nosuch\\x1buser on this host; users of containers have none\n"
    )
    assert host.run(*words, "root").stderr == host.run(*words, "nobody-here", "--json").stderr == ""


def test_a_name_that_is_not_utf8_is_refused_with_the_form_that_is_found(host: Daemon) -> None:
    """Its bytes are spelled out as in `status`, and a search for that finds the user's violations."""
    said = refusal(host, "violations", "--user", "al\udcffice")
    assert "'--user' / '-u': the value is not valid UTF-8: canhazgpu shows it as 'al\\xffice'" in said
    host.place(gpu(0, use(1, 900, user="al\\xffice")))
    until(host.facts)
    found = host.run("violations", "--user", "al\\xffice", "--json")
    assert [one["user"] for one in json.loads(found.stdout)] == ["al\\xffice"]
    assert host.run("violations", "--user", "alice", "--json").stdout == "[]\n"
