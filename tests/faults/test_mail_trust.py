"""Mail over TLS with a login is sent only to the right server."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from structlog.testing import capture_logs
from support.mail_server import Server
from support.notices import notice

from canhazgpu.cli.doctor import channel_checks
from canhazgpu.config.channels import Email, Notify
from canhazgpu.config.settings import Settings
from canhazgpu.notifiers.channels.mail import Mail
from canhazgpu.notifiers.outcome import Outcome

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS"),  # It has TLS from the start.
]
BOB = "bob@example.com"
LOGIN = ("gpu-host-1", "correct horse")
HERE, ELSEWHERE = "localhost", "mail.example.com"


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    """A certificate authority, in the file that the settings name."""
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    (tmp_path / "password").write_text(f"{LOGIN[1]}\n")
    return made


def certificate(authority: trustme.CA, name: str) -> ssl.SSLContext:
    """Return the certificate of a server with this name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


@contextmanager
def serving(**facts: Any) -> Iterator[Server]:
    """A mail server for the test."""
    server = Server(**facts)
    yield server
    server.controller.stop()


def settings(server: Server, folder: Path, **facts: Any) -> Settings:
    """Return settings for this server."""
    email = {
        "enabled": True,
        "host": HERE,
        "port": server.port,
        "tls": "starttls",
        "ca_file": str(folder / "ca.pem"),
        "username": LOGIN[0],
        "password_file": str(folder / "password"),
        "user_address": "{user}@example.com",
        "admins": ["admin@example.com"],
        **facts,
    }
    return Settings(host="gpu-host-1", notify=Notify(email=Email(**email)))


async def deliver(chosen: Settings) -> Outcome:
    """Send one mail; return the outcome."""
    mail, told = Mail(chosen), notice("python3")
    with capture_logs() as logs:
        (outcome,) = await mail.deliver(told, await mail.recipients(told), None)
    assert LOGIN[1] not in repr((outcome, logs))
    return outcome


def doctor(chosen: Settings) -> list[tuple[str, str, str]]:
    """Return doctor's finding about mail."""
    found = list(channel_checks.email(chosen))
    assert LOGIN[1] not in repr(found)
    return found


@pytest.mark.parametrize("tls", ["starttls", "tls"])
async def test_with_the_right_certificate_and_password_it_arrives(
    authority: trustme.CA, tmp_path: Path, tls: str
) -> None:
    """STARTTLS and TLS from the start work, and doctor reports it."""
    with serving(**{tls: certificate(authority, HERE)}, login=LOGIN) as server:
        chosen = settings(server, tmp_path, tls=tls)
        assert await deliver(chosen) == Outcome(BOB, "delivered")
        assert [found[0] for found in doctor(chosen)] == ["ok"]
        assert server.logins == [True, True]
    ((_, recipients, mail),) = server.taken
    assert (recipients, mail["To"]) == ([BOB], BOB)


async def test_a_wrong_password_waits_for_the_right_one(authority: trustme.CA, tmp_path: Path) -> None:
    """A wrong password is an error of the settings: the mail waits, and the file is read again."""
    with serving(starttls=certificate(authority, HERE), login=LOGIN) as server:
        chosen = settings(server, tmp_path)
        (tmp_path / "password").write_text("guess")
        assert await deliver(chosen) == Outcome(BOB, "retry", "the server rejects the login (535)")
        ((state, found, _),) = doctor(chosen)
        assert (state, "rejects the login (535)" in found) == ("fail", True)
        assert set(server.logins) == {False}
        assert server.tries == 0
        (tmp_path / "password").write_text(LOGIN[1])
        assert (await deliver(chosen)).verdict == "delivered"


@pytest.mark.parametrize("tls", ["starttls", "tls"])
@pytest.mark.parametrize(
    ("name", "known", "reason"),
    [
        (HERE, False, "certificate verify failed"),
        (ELSEWHERE, True, "certificate verify failed"),
    ],
    ids=["unknown authority", "another name"],
)
async def test_a_wrong_certificate_gets_neither_mail_nor_password(
    authority: trustme.CA, tmp_path: Path, tls: str, name: str, reason: str, *, known: bool
) -> None:
    """If the certificate is not trusted, nothing is sent and the mail waits."""
    if not known:
        trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with serving(**{tls: certificate(authority, name)}, login=LOGIN) as server:
        chosen = settings(server, tmp_path, tls=tls)
        outcome = await deliver(chosen)
        ((state, found, remedy),) = doctor(chosen)
        assert (server.logins, server.asked, server.taken) == ([], [], [])
    assert outcome.verdict == "retry"
    assert reason in outcome.detail
    assert (state, "ca_file" in remedy) == ("fail", True), found


async def test_without_ca_file_the_hosts_authorities_count(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `ca_file` the authorities of the host count, and with it they still do."""
    with serving(starttls=certificate(authority, HERE), login=LOGIN) as server:
        assert "certificate verify failed" in (await deliver(settings(server, tmp_path, ca_file=""))).detail
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        assert (await deliver(settings(server, tmp_path, ca_file=""))).verdict == "delivered"
        trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
        beside = settings(server, tmp_path, ca_file=str(tmp_path / "other.pem"))
        assert (await deliver(beside)).verdict == "delivered"


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "cannot be read: No such file or directory"), ("no certificate", "is not in PEM format")],
)
async def test_a_ca_file_that_is_none_waits(
    authority: trustme.CA, tmp_path: Path, content: str | None, reason: str
) -> None:
    """An invalid `ca_file` is an error; it never turns verification off."""
    (tmp_path / "ca.pem").unlink()
    if content:
        (tmp_path / "ca.pem").write_text(content)
    with serving(starttls=certificate(authority, HERE), login=LOGIN) as server:
        outcome = await deliver(settings(server, tmp_path))
        assert server.logins == []
    assert outcome.verdict == "retry"
    assert f"the file in notify.email.ca_file {reason}" in outcome.detail


@pytest.mark.usefixtures("authority")
async def test_a_server_that_knows_no_login_gets_no_mail(tmp_path: Path) -> None:
    """If the server offers no AUTH, neither the password nor the mail is sent."""
    with serving(login=LOGIN) as server:
        outcome = await deliver(settings(server, tmp_path, tls="none"))
        assert (server.logins, server.taken) == ([], [])
    assert outcome.verdict == "retry"
