"""The doctor's checks of channels: they send nothing, and show no secret."""

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from support.ports import free_port
from support.receiver import Receiver, receiving

from canhazgpu.cli.doctor import channel_checks
from canhazgpu.config.channels import Email, Exec, Notify, Webhook
from canhazgpu.config.settings import Settings

HIDDEN = "hunter2"
Check = Callable[[Settings], Iterator[channel_checks.Finding]]


def found(check: Check, **notify: object) -> list[tuple[str, str]]:
    """Return the findings of a check; fail on a secret or a missing remedy."""
    findings = list(check(Settings(notify=Notify(**notify))))  # type: ignore[arg-type]
    assert HIDDEN not in repr(findings)
    assert all(remedy for state, _, remedy in findings if state != "ok")
    return [(state, what) for state, what, _ in findings]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that works."""
    with receiving() as made:
        yield made
        assert made.taken == [], "the doctor sent something"


def test_a_webhook_is_connected_to(receiver: Receiver, tmp_path: Path) -> None:
    """Each webhook is reported by its name: works, does not answer, or has wrong settings."""
    (tmp_path / "url").write_text(f"{receiver.url}/{HIDDEN}\n")
    (tmp_path / "none").write_text(f"ftp://{HIDDEN}")
    (tmp_path / "bytes").write_bytes(b"\xff" + HIDDEN.encode())
    port = free_port()
    targets = {
        "good": Webhook(url=f"{receiver.url}/{HIDDEN}"),
        "filed": Webhook(url_file=str(tmp_path / "url")),
        "missing": Webhook(url_file=str(tmp_path / "missing")),
        "unsigned": Webhook(url=receiver.url, secret_file=str(tmp_path / "missing")),
        "none": Webhook(url_file=str(tmp_path / "none")),
        "bytes": Webhook(url_file=str(tmp_path / "bytes")),
        "port": Webhook(url=f"http://{HIDDEN}:99999/"),
        "down": Webhook(url=f"http://127.0.0.1:{port}/{HIDDEN}"),
    }
    assert found(channel_checks.webhook, webhook=targets) == [
        ("ok", "good answers"),
        ("ok", "filed answers"),
        ("fail", f"missing: {tmp_path}/missing cannot be read"),
        ("fail", f"unsigned: {tmp_path}/missing cannot be read"),
        ("fail", "none: its URL is not valid"),
        ("fail", "bytes: its URL is not valid"),
        ("fail", "port: its URL is not valid"),
        ("warn", "down: Connection refused"),
    ]
    assert found(channel_checks.webhook) == [("ok", "the channel is disabled")]


def test_a_webhooks_certificate_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificate of a webhook is checked like at a delivery."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with receiving(context) as receiver:
        targets = {"chat": Webhook(url=f"{receiver.url}/{HIDDEN}")}
        assert found(channel_checks.webhook, webhook=targets) == [
            ("fail", "chat: its certificate is not trusted")
        ]
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        assert found(channel_checks.webhook, webhook=targets) == [("ok", "chat answers")]


def test_a_program_must_be_there_and_executable(tmp_path: Path) -> None:
    """The program must exist and be executable; a folder is refused."""
    (tmp_path / "text").write_text("")
    for path, state in (("/bin/true", "ok"), ("text", "fail"), ("none", "fail"), (".", "fail")):
        ((got, _),) = found(channel_checks.program, exec=Exec(command=[str(tmp_path / path)]))
        assert got == state
    assert found(channel_checks.program) == [("ok", "the channel is disabled")]


def test_mail_that_would_reach_nobody_is_warned_of(tmp_path: Path) -> None:
    """Without a source of addresses there is a warning; with one, its program is checked."""
    port = free_port()
    plain: dict[str, Any] = {"enabled": True, "host": "127.0.0.1", "port": port}
    silent = [("fail", f"127.0.0.1:{port}: [Errno 111] Connection refused")]
    nobody = [("warn", "users have no email address"), ("warn", "administrators have no email address")]
    assert found(channel_checks.email, email=Email(**plain)) == [*nobody, *silent]
    for way in ({"gecos": True}, {"addresses": {"a": "b@c"}}, {"user_address": "{user}@c"}):
        settings = Email(**plain, admins=["a@b"], **way)
        assert found(channel_checks.email, email=settings) == silent
    asking = Email(**plain, admins=["a@b"], address_command=[f"{tmp_path}/none"])
    assert found(channel_checks.email, email=asking) == [
        ("fail", f"{tmp_path}/none cannot be started"),
        *silent,
    ]
    locked = Email(**plain, admins=["a@b"], gecos=True, ca_file=f"{tmp_path}/ca")
    assert found(channel_checks.email, email=locked) == [("fail", f"{tmp_path}/ca cannot be read")]
    assert found(channel_checks.email) == [("ok", "the channel is disabled")]


def test_notifiers_of_the_site_are_made() -> None:
    """A plugin that is not installed is named."""
    assert found(channel_checks.plugins) == [("ok", "none are configured")]
    ((state, what),) = found(channel_checks.plugins, plugins={"pager": {}})
    assert (state, what.startswith("notify.plugins.pager: no installed package")) == ("fail", True)
