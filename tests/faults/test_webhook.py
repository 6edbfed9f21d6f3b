"""Receivers that refuse, hang, are slow or disconnect: an outcome in time, without any secret."""

import logging
import re
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme
from support.notices import notice
from support.receiver import Behaviour, Receiver, answer, close, drip, endless, receiving, silent

from canhazgpu.config.channels import Webhook as Target
from canhazgpu.events.notices import Notice
from canhazgpu.notifiers.channels.webhook import Webhook
from canhazgpu.notifiers.outcome import Outcome

pytestmark = pytest.mark.anyio
HIDDEN = "hunter2"
DOCUMENT = Path(__file__).parents[2] / "docs" / "notifiers.md"
GONE = "http://127.0.0.1:1"  # Port 1: nobody listens.


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A receiver that accepts everything until told otherwise."""
    monkeypatch.setenv("NO_PROXY", "*")
    with receiving() as made:
        yield made


def webhook(url: str, **facts: Any) -> Webhook:
    """The channel, with a secret in its URL."""
    return Webhook("chat", Target(url=f"{url}/{HIDDEN}?key={HIDDEN}", **facts))


async def deliver(channel: Webhook, told: Notice | None = None) -> Outcome:
    """Deliver one notice; return the outcome."""
    told = told or notice("python3")
    recipients = await channel.recipients(told)
    assert recipients == ["chat"]
    (outcome,) = await channel.deliver(told, recipients, None)
    assert outcome.recipient == "chat"
    return outcome


async def test_the_notice_arrives_as_it_is(receiver: Receiver) -> None:
    """The JSON body reads back as the notice, with its id to recognise repeats."""
    told = notice("python3", "日本語")
    channel = webhook(receiver.url)
    assert channel.name == "webhook:chat"
    assert await deliver(channel, told) == Outcome("chat", "delivered")
    assert await deliver(channel, told) == Outcome("chat", "delivered")
    first, again = receiver.taken
    assert first.path == f"/{HIDDEN}?key={HIDDEN}"
    assert msgspec.json.decode(first.body, type=Notice) == told
    assert first.headers["Content-Type"] == "application/json"
    assert abs(int(first.headers["X-Canhazgpu-Timestamp"]) - time.time()) < 60
    assert "X-Canhazgpu-Signature" not in first.headers
    assert {one.headers["X-Canhazgpu-Notice"] for one in (first, again)} == {told.notice}


async def test_the_receiver_can_check_the_signature(receiver: Receiver, tmp_path: Path) -> None:
    """The signature is verified by the code in docs/notifiers.md; changed requests fail."""
    (code,) = re.findall(r"```python\n(# receiver\n.*?)```", DOCUMENT.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - a document's example, run as its reader would
    genuine = names["genuine"]
    file = tmp_path / "secret"
    file.write_text("correct horse\n")
    channel = webhook(receiver.url, secret_file=str(file))
    await deliver(channel)
    file.write_text("another")
    await deliver(channel)
    for request, secret in zip(receiver.taken, (b"correct horse", b"another"), strict=True):
        headers, body = dict(request.headers), request.body
        assert genuine(headers, body, secret)
        assert not genuine(headers, body, b"guess")
        assert not genuine(headers, body + b" ", secret)
        moment = headers["X-Canhazgpu-Timestamp"]
        assert not genuine({**headers, "X-Canhazgpu-Timestamp": f"{int(moment) + 1}"}, body, secret)
        assert not genuine({**headers, "X-Canhazgpu-Timestamp": f"{int(moment) - 3600}"}, body, secret)


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (200, "delivered"),
        (204, "delivered"),
        (299, "delivered"),
        (301, "failed"),
        (308, "failed"),
        (400, "failed"),
        (401, "failed"),
        (404, "failed"),
        (408, "retry"),
        (410, "failed"),
        (425, "retry"),
        (429, "retry"),
        (500, "retry"),
        (503, "retry"),
        (599, "retry"),
    ],
)
async def test_what_a_status_means(receiver: Receiver, status: int, verdict: str) -> None:
    """The status decides about delivered, retry or failed, and is in the detail."""
    receiver.behaviour = answer(status, Location=f"{receiver.url}/elsewhere")
    outcome = await deliver(webhook(receiver.url))
    assert outcome.verdict == verdict
    assert verdict == "delivered" or str(status) in outcome.detail
    assert [request.path.startswith(f"/{HIDDEN}") for request in receiver.taken] == [True], "it was followed"


@pytest.mark.parametrize("behaviour", [silent, drip], ids=["silent", "drip"])
async def test_a_receiver_without_an_end_is_waited_for_once(receiver: Receiver, behaviour: Behaviour) -> None:
    """One deadline covers the whole request, also for slow answers."""
    receiver.behaviour = behaviour
    began = time.monotonic()
    outcome = await deliver(webhook(receiver.url, timeout="500ms"))
    assert 0.4 < time.monotonic() - began < 20
    assert outcome == Outcome("chat", "retry", "no answer within 500ms")


async def test_a_body_without_an_end_is_not_read(receiver: Receiver) -> None:
    """The body of the answer is not read."""
    receiver.behaviour = endless
    began = time.monotonic()
    assert (await deliver(webhook(receiver.url, timeout="60s"))).verdict == "delivered"
    assert time.monotonic() - began < 50


async def test_who_hangs_up_or_is_not_there_is_tried_again(receiver: Receiver) -> None:
    """A broken or refused connection is retried."""
    receiver.behaviour = close
    assert (await deliver(webhook(receiver.url))).verdict == "retry"
    refused = await deliver(webhook(GONE))
    assert refused == Outcome("chat", "retry", "Connection refused")
    unknown = await deliver(webhook("http://no-such-host.invalid", timeout="5s"))
    assert unknown.verdict == "retry"


async def test_files_are_read_at_each_delivery(receiver: Receiver, tmp_path: Path) -> None:
    """Files are read at each delivery; for a missing or invalid one the notice is retried."""
    file = tmp_path / "url"
    channel = Webhook("chat", Target(url_file=str(file)))
    wanted = {
        None: "its url_file cannot be read: No such file or directory",
        b" \n": "its url_file is empty",
        b"ftp://hunter2": "its url_file does not contain a URL",
        b"http://\xff hunter2": "its url_file does not contain a URL",
    }
    for content, detail in wanted.items():
        if content is not None:
            file.write_bytes(content)
        assert await deliver(channel) == Outcome("chat", "retry", detail)
    file.write_text(f"{receiver.url}/{HIDDEN}\n")
    assert (await deliver(channel)).verdict == "delivered"
    unsigned = webhook(receiver.url, secret_file=str(tmp_path / "none"))
    assert (await deliver(unsigned)).detail == "its secret_file cannot be read: No such file or directory"
    assert len(receiver.taken) == 1, "it went out without its signature"


async def test_no_word_of_it_holds_a_secret(
    receiver: Receiver, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """No outcome, log line or output contains the URL, its host or the secret."""
    caplog.set_level(logging.DEBUG)
    (tmp_path / "secret").write_text(f"signed with {HIDDEN}")
    (tmp_path / "url").write_text(f"http://{HIDDEN}.invalid:99999/{HIDDEN}")
    signed: dict[str, Any] = {"secret_file": str(tmp_path / "secret")}
    outcomes = [await deliver(Webhook("chat", Target(url_file=str(tmp_path / "url"), **signed)))]
    for behaviour in (answer(200), answer(500), answer(404), answer(302, Location="/"), silent, drip, close):
        receiver.behaviour = behaviour
        timeout = "300ms" if behaviour in (silent, drip) else "30s"
        outcomes.append(await deliver(webhook(receiver.url, timeout=timeout, **signed)))
    wrong = (GONE, f"http://{HIDDEN}.invalid", f"http://[{HIDDEN}", f"http://{HIDDEN}@", "http://\x00")
    outcomes += [await deliver(webhook(url, **signed)) for url in wrong]
    assert {outcome.verdict for outcome in outcomes} == {"delivered", "retry", "failed"}
    everything = "\n".join([repr(outcomes), caplog.text, *capfd.readouterr()])
    for word in (HIDDEN, str(receiver.port), "invalid"):
        assert word not in everything.lower().replace("invalidurl", "")


class Authority(trustme.CA):
    """A certificate authority that this process can be made to trust."""

    def server(self, *names: str) -> ssl.SSLContext:
        """Return the certificate of a server with these names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.issue_cert(*names).configure_cert(context)
        return context


@pytest.mark.parametrize(
    ("names", "trusted", "detail"),
    [
        (["127.0.0.1"], True, ""),
        (["127.0.0.1"], False, "its certificate is not trusted: unable to get local issuer certificate"),
        (["hooks.example.com"], True, "its certificate is not trusted: it is for another name"),
    ],
    ids=["right", "unknown authority", "another name"],
)
async def test_a_certificate_is_checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, names: list[str], detail: str, *, trusted: bool
) -> None:
    """A notice is sent only to a server with a trusted certificate for its name."""
    monkeypatch.setenv("NO_PROXY", "*")
    authority = Authority()
    known = authority if trusted else Authority()
    known.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with receiving(authority.server(*names)) as receiver:
        outcome = await deliver(webhook(receiver.url))
        assert len(receiver.taken) == (not detail)
    assert outcome == Outcome("chat", "retry" if detail else "delivered", detail)
