"""The address of a user: the order of the sources, the cache, and names that no program gets."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from structlog.testing import capture_logs
from support.eventually import eventually
from support.people import Person

from canhazgpu.config.channels import Email
from canhazgpu.notifiers.channels import mail_addresses
from canhazgpu.notifiers.channels.mail_addresses import KEEP, KEEP_FAILURE, Addresses

pytestmark = pytest.mark.anyio
TEMPLATE = "{user}@example.com"
ODD = ["-oX", "--help", "a b", "a\nb", "a;b", "", ".", "..", "a" * 65, "bob@evil.example", "../bob", "bob\0"]


class Clock:
    """A clock that the test advances."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], list[str]]:
    """Make an address program of a shell script; it records how often it is called, and for whom."""

    def make(text: str) -> list[str]:
        file = tmp_path / "ask"
        file.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/asked\n{text}\n')
        file.chmod(0o755)
        return [str(file), "mail of"]

    return make


def asked(folder: Path) -> list[str]:
    """Return the users that the program was asked for, in order."""
    file = folder / "asked"
    return file.read_text().splitlines() if file.exists() else []


def ladder(clock: Callable[[], float] = time.monotonic, **facts: Any) -> Addresses:
    """Return the sources with these settings."""
    return Addresses(Email(**facts), clock)


async def test_the_first_way_that_knows_wins(program: Callable[[str], list[str]], tmp_path: Path) -> None:
    """The sources are asked in the order table, program, template.

    Each is asked only if the ones before have no answer.
    """
    command = program('[ "$2" = carol ] && echo carol@directory.example; exit 0')
    found = ladder(user_address=TEMPLATE, addresses={"bob": "robert@example.org"}, address_command=command)
    assert await found.of("bob") == "robert@example.org"
    assert asked(tmp_path) == []
    assert await found.of("carol") == "carol@directory.example"
    assert await found.of("dave") == "dave@example.com"
    assert asked(tmp_path) == ["mail of carol", "mail of dave"]
    assert await ladder().of("bob") is None


async def test_an_address_in_the_comment_field_is_found(
    people: list[Person], program: Callable[[str], list[str]], tmp_path: Path
) -> None:
    """An address anywhere in a real user's comment field is found before the program is asked."""
    command = program("echo program@example.org")
    bob, carol = people
    bob.set_comment("Bob Doe,Room 7,bob.doe@example.org,,x")
    carol.set_comment("Carol <none>,a@,@b")
    found = ladder(gecos=True, address_command=command, user_address=TEMPLATE)
    assert await found.of(bob.name) == "bob.doe@example.org"
    assert asked(tmp_path) == []
    assert await found.of(carol.name) == "program@example.org"
    assert await ladder(address_command=command).of(bob.name) == "program@example.org"
    assert await ladder(gecos=True).of("nobody-of-this-name") is None
    assert await ladder(user_address=TEMPLATE).of(bob.name) == f"{bob.name}@example.com"
    carol.set_comment("Carol Doe <carol@example.org>")
    assert await ladder(gecos=True).of(carol.name) == "carol@example.org"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("exit 1", "ask ended with status 1"),
        ("echo bob@example.org; exit 1", "ask ended with status 1"),
        ("kill -9 $$", "ask ended with status -9"),
        ("echo nobody", "the answer is not an email address: nobody"),
        ("printf 'a@b.org\\033[2J'", "the answer is not an email address: a@b.org\\x1b[2J"),
        ("echo a@b.org,c@d.org", "the answer is not an email address: a@b.org,c@d.org"),
        ("printf '\\377\\377'", "the answer is not an email address: \ufffd\ufffd"),
        ("echo bob@example.org >&2", ""),
        ("", ""),
        ("printf '\\nbob@example.org\\n'", ""),
    ],
)
async def test_what_is_no_answer_is_logged_and_the_next_way_is_tried(
    program: Callable[[str], list[str]], text: str, reason: str
) -> None:
    """A failure of the program is logged and the next source is tried; no output just means no address."""
    command = program(text)
    with capture_logs() as logs:
        assert await ladder(address_command=command).of("bob") is None
        assert await ladder(address_command=command, user_address=TEMPLATE).of("bob") == "bob@example.com"
    expected = [{"event": "no_address", "log_level": "warning", "user": "bob", "reason": reason}] * 2
    assert logs == (expected if reason else [])


async def test_a_program_that_hangs_is_ended(
    program: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A program that hangs is killed with its children.

    Its output is not used, and it is not started again at once.
    """
    monkeypatch.setattr(mail_addresses, "PATIENCE", 4.0)  # It has to have begun by then.
    command = program(f"echo bob@example.org; sleep 60 & echo $! > {tmp_path}/child; wait")
    found = ladder(address_command=command, user_address=TEMPLATE)
    began = time.monotonic()
    with capture_logs() as logs:
        assert await found.of("bob") == "bob@example.com"
        assert await found.of("bob") == "bob@example.com"
    assert 3.9 < time.monotonic() - began < 40  # It would hang for a minute.
    assert [line["reason"] for line in logs] == ["ask did not end within 4 s"]
    child = int((tmp_path / "child").read_text())

    async def gone() -> bool:
        return not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE

    await eventually(gone)


async def test_a_program_that_is_not_there_is_no_address(tmp_path: Path) -> None:
    """A program that does not exist or is not executable gives no address."""
    (tmp_path / "ask").write_text("")
    with capture_logs() as logs:
        for path in ("none", "ask"):
            assert await ladder(address_command=[str(tmp_path / path)]).of("bob") is None
    reasons = [line["reason"] for line in logs]
    assert reasons == [
        "none cannot be started: No such file or directory",
        "ask cannot be started: Permission denied",
    ]


async def test_answers_are_remembered_for_a_while(
    program: Callable[[str], list[str]], tmp_path: Path
) -> None:
    """An address, or that there is none, is cached for ten minutes; a failure for one minute."""
    clock = Clock()
    command = program(f"cat {tmp_path}/answer")
    (tmp_path / "answer").write_text("one@example.org\n")
    found = ladder(clock, address_command=command)
    assert await found.of("bob") == "one@example.org"
    (tmp_path / "answer").write_text("two@example.org\n")
    clock.now = KEEP - 1
    assert await found.of("bob") == "one@example.org"
    clock.now = KEEP
    assert await found.of("bob") == "two@example.org"
    (tmp_path / "answer").unlink()
    clock.now = 2 * KEEP
    assert await found.of("bob") is None
    (tmp_path / "answer").write_text("three@example.org\n")
    clock.now += KEEP_FAILURE - 1
    assert await found.of("bob") is None
    clock.now += 1
    assert await found.of("bob") == "three@example.org"
    assert len(asked(tmp_path)) == 4


@pytest.mark.parametrize("user", ODD)
async def test_no_program_sees_an_odd_name(
    program: Callable[[str], list[str]], tmp_path: Path, user: str
) -> None:
    """A name that could be an option, a path or two words is looked up in the table only."""
    odd = ladder(gecos=True, address_command=program("echo eve@example.org"), user_address=TEMPLATE)
    assert await odd.of(user) is None
    assert asked(tmp_path) == []
    assert await ladder(addresses={user: "odd@example.org"}).of(user) == "odd@example.org"


@pytest.mark.parametrize(
    "user", ["23456", "0", "4294967295", "root in docker 0123456789ab", "uid 1000 in a container"]
)
async def test_what_stands_where_no_name_is_known_is_no_mail_name(
    program: Callable[[str], list[str]], tmp_path: Path, user: str
) -> None:
    """A number or a container's process has an address only if the table has one; no program is asked."""
    command = program('echo "$2@directory.example"')
    nameless = ladder(gecos=True, address_command=command, user_address=TEMPLATE)
    assert await nameless.of(user) is None
    assert asked(tmp_path) == []
    assert await ladder(addresses={user: "known@example.org"}, user_address=TEMPLATE).of(user)
    assert await nameless.of("u23456") == "u23456@directory.example"


async def test_the_template_makes_nothing_but_addresses() -> None:
    """The template gives no address for a name that is valid for a user but not in an address."""
    found = ladder(user_address=TEMPLATE)
    assert await found.of("bob.") is None
    assert await found.of("b..b") is None
    assert await found.of("b.b") == "b.b@example.com"
