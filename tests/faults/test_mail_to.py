"""The recipients and the content of a mail: a repeated mail is identical."""

from email.message import EmailMessage
from typing import Any

import anyio
import msgspec
import pytest
from support.eventually import eventually
from support.mail_server import NEVER, OK, TRY_LATER, Server
from support.notices import announce, notice, violation

from canhazgpu.config.channels import Email, Notify, Wall
from canhazgpu.config.notices import Notices, Step
from canhazgpu.config.settings import Settings
from canhazgpu.events.envelope import Event
from canhazgpu.events.notices import Notice
from canhazgpu.events.outbox import deadletters, deliveries
from canhazgpu.events.redis_client.store import Store
from canhazgpu.events.violations import OPENED
from canhazgpu.notifiers.channels.mail import Mail
from canhazgpu.notifiers.messages.html_page import page
from canhazgpu.notifiers.messages.plain_text import lines
from canhazgpu.workers.delivery import DeliveryWorker
from canhazgpu.workers.dispatch.dispatcher import Dispatcher

pytestmark = pytest.mark.anyio
ANN, ADAM = "ann@example.com", "adam@example.com"


def channel(port: int = 25, **facts: Any) -> Mail:
    """The channel `email`, with two administrators."""
    email = Email(enabled=True, host="127.0.0.1", port=port, **{"admins": [ANN, ADAM], **facts})
    return Mail(Settings(host="gpu-host-1", notify=Notify(email=email)))


TEMPLATE = {"user_address": "{user}@example.com"}
TABLE = {"addresses": {"bob": "robert@example.org"}}


@pytest.mark.parametrize(
    ("settings", "facts", "expected"),
    [
        (TEMPLATE, {}, ["bob@example.com"]),
        (TABLE, {}, ["robert@example.org"]),
        (TEMPLATE | TABLE, {"audience": "holder", "person": "carol"}, ["carol@example.com"]),
        (TABLE, {"audience": "holder", "person": "carol"}, []),
        ({}, {}, []),
        (TEMPLATE, {"person": None}, []),
        (TEMPLATE, {"person": "23456"}, []),
        (TEMPLATE, {"audience": "holder", "person": "23456"}, []),
        (TEMPLATE, {"person": None, "user": "root in docker 0123456789ab"}, []),
        (TEMPLATE, {"person": None, "user": "unproven"}, []),
        (TEMPLATE, {"audience": "admins", "person": None}, [ANN, ADAM]),
        ({"admins": [ANN, ANN]}, {"audience": "admins", "person": None}, [ANN]),
        ({"admins": []}, {"audience": "admins", "person": None}, []),
        (TEMPLATE, {"audience": "address", "person": None, "to": "lab@example.net"}, ["lab@example.net"]),
        (TEMPLATE, {"kind": "test", "channel": "email", "to": None}, ["bob@example.com"]),
        (TABLE, {"kind": "test", "channel": "email", "to": "bob"}, ["robert@example.org"]),
        (TABLE, {"kind": "test", "channel": "email", "to": "carol"}, ["carol"]),
        (TEMPLATE, {"audience": "admins", "channel": "email", "to": ADAM}, [ADAM]),
    ],
)
async def test_whom_a_notice_is_for(
    settings: dict[str, Any], facts: dict[str, Any], expected: list[str]
) -> None:
    """The recipients are the person, all administrators, or one address, and nobody if there is none."""
    assert await channel(**settings).recipients(notice("python3", **facts)) == expected


def parts(mail: EmailMessage) -> tuple[str, str]:
    """Return the text and the page of a mail."""
    text, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert text is not None
    assert html is not None
    assert [part.get_content_type() for part in mail.walk()] == [
        "multipart/alternative",
        "text/plain",
        "text/html",
    ]
    return text.get_content(), html.get_content()


def test_a_mail_is_text_and_a_page() -> None:
    """The text part has all lines of the notice, and the HTML part is the page."""
    told = notice("日本語", "</pre><script>alert(1)</script>")
    mail = channel().message(told, ["bob@example.com"], None)
    text, html = parts(mail)
    assert text.splitlines() == [*lines(told), "", "--", "canhazgpu on gpu-host-1"]
    assert html.strip() == page(told).strip()
    assert "<script>" not in html
    assert (mail["To"], mail["Cc"], mail["Bcc"]) == ("bob@example.com", None, None)
    assert (mail["Auto-Submitted"], mail["X-Canhazgpu-Notice"]) == ("auto-generated", told.notice)


def test_a_mail_that_comes_again_is_the_same() -> None:
    """A repeated mail is identical to the last byte; another notice has another Message-ID."""
    told, later = notice("日本語"), notice("日本語", notice="02NOTICE", kind="resolved")
    first, again = (channel().message(told, ["bob@example.com"], None) for _ in range(2))
    assert first.as_bytes() == again.as_bytes()
    answer = channel().message(later, ["bob@example.com"], told.notice)
    assert answer["Message-ID"] != first["Message-ID"]
    assert answer["In-Reply-To"] == answer["References"] == first["Message-ID"]
    assert answer.get_boundary() != first.get_boundary()


@pytest.mark.parametrize("answer", [TRY_LATER, NEVER], ids=["for now", "for good"])
async def test_one_refused_does_not_repeat_the_mail_to_the_other(store: Store, answer: str) -> None:
    """If one of two administrators is refused, only that one gets the mail later."""
    server = Server()

    def refuse(command: str, address: str) -> str:
        return answer if command == "RCPT" and address == ADAM and server.tries < 3 else OK

    server.answer = refuse
    told = notice("python3", audience="admins", person=None)
    try:
        async with anyio.create_task_group() as tasks:
            await tasks.start(DeliveryWorker(store, channel(server.port), "test").run)
            await announce(store, told)

            async def settled() -> bool:
                ends = {row.recipient for row in await deliveries(store) if row.outcome != "retry"}
                return ends == {ANN, ADAM}

            await eventually(settled, 30)
            letters = [letter.recipient for letter in await deadletters(store)]
            tasks.cancel_scope.cancel()
    finally:
        server.controller.stop()
    assert letters == ([ADAM] if answer == NEVER else [])
    expected = [[ANN]] if answer == NEVER else [[ANN], [ADAM]]
    assert [recipients for _, recipients, _ in server.taken] == expected
    assert len({mail.as_bytes() for _, _, mail in server.taken}) == 1
    assert server.taken[0][2]["To"] == f"{ANN}, {ADAM}"


async def test_a_dead_letter_goes_to_its_recipient_alone(store: Store) -> None:
    """A replayed mail goes only to the administrator who did not get it."""
    server = Server()
    told: Notice = notice("python3", audience="admins", person=None, channel="email", to=ADAM)
    try:
        async with anyio.create_task_group() as tasks:
            await tasks.start(DeliveryWorker(store, channel(server.port), "test").run)
            await announce(store, told)

            async def settled() -> bool:
                return bool(await deliveries(store))

            await eventually(settled, 30)
            tasks.cancel_scope.cancel()
    finally:
        server.controller.stop()
    ((_, recipients, mail),) = server.taken
    assert (recipients, mail["To"]) == ([ADAM], ADAM)


async def test_who_has_only_a_number_is_not_mailed_and_administrators_hear(store: Store) -> None:
    """A user without a name has no address, so the next step follows at once."""
    server = Server()
    steps = [
        Step(after="0s", channels=["email"], to=["offender"]),
        Step(after="1h", channels=["email"], to=["admins"]),
    ]
    email = Email(
        enabled=True, host="127.0.0.1", port=server.port, admins=[ANN], user_address="{user}@example.com"
    )
    notices = Notices(group_wait=0.05, steps=steps)
    settings = Settings(host="h", notices=notices, notify=Notify(email=email, wall=Wall(enabled=False)))
    opened = msgspec.structs.replace(violation("python3", user="23456"), uid=23456, key="uid:23456")
    event = Event(
        id="1-1",
        source="//h/canhazgpu",
        type=OPENED,
        subject=f"violation/{opened.violation}",
        time=opened.since,
        data=msgspec.to_builtins(opened),
    )
    fields: Any = event.to_fields()
    try:
        async with anyio.create_task_group() as tasks:
            await tasks.start(Dispatcher(settings, store, "test").run)
            await tasks.start(DeliveryWorker(store, Mail(settings), "test").run)
            await store.redis.xadd(store.keys.violations, fields)

            async def delivered() -> bool:
                return any(row.outcome == "delivered" for row in await deliveries(store))

            await eventually(delivered, 30)
            rows = sorted((row.audience, row.recipient, row.outcome) for row in await deliveries(store))
            tasks.cancel_scope.cancel()
    finally:
        server.controller.stop()
    assert rows == [("admins", ANN, "delivered"), ("offender", "", "nobody")]
    ((_, recipients, mail),) = server.taken
    assert recipients == [ANN]
    assert "23456 could not be notified" in parts(mail)[0]
