"""A broken channel, and a mail server that closes connections, on a real Redis."""

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import anyio
import pytest
from support.eventually import eventually, slowness

from canhazgpu.config.channels import Email, Notify
from canhazgpu.config.settings import Settings
from canhazgpu.events.notices import Notice
from canhazgpu.events.outbox import deadletters, deliveries, send_test
from canhazgpu.events.redis_client.store import Store
from canhazgpu.notifiers.channels.mail import Mail
from canhazgpu.notifiers.outcome import Outcome
from canhazgpu.workers.delivery import DeliveryWorker

pytestmark = pytest.mark.anyio
ADMIN = "admin@example.com"


class Breaking:
    """A channel that raises an exception for one recipient."""

    name = "wall"

    async def recipients(self, notice: Notice) -> list[str]:
        """Return the person of the notice."""
        return [notice.to] if notice.to else []

    async def deliver(self, notice: Notice, recipients: list[str], first: str | None) -> Sequence[Outcome]:
        """Raise an exception for `bad`."""
        del notice, first
        if "bad" in recipients:
            raise KeyError("secret")
        return [Outcome(one, "delivered") for one in recipients]


async def test_a_channel_that_breaks_makes_a_dead_letter_and_goes_on(store: Store) -> None:
    """If a channel raises an exception, the notice is given up without details, and the next is delivered."""
    async with anyio.create_task_group() as tasks:
        await tasks.start(DeliveryWorker(store, Breaking(), "test").run)
        await send_test(store, "wall", "bad", "bad", None)
        await send_test(store, "wall", "good", "good", None)

        async def both() -> bool:
            return len(await deliveries(store)) == 2

        await eventually(both)
        found = {one.recipient: one.outcome for one in await deliveries(store)}
        (letter,) = await deadletters(store)
        tasks.cancel_scope.cancel()
    assert found == {"bad": "failed", "good": "delivered"}
    assert (letter.recipient, letter.reason) == ("bad", "KeyError in the channel")


@contextmanager
def server(*answers: bytes, silent_at: bytes = b"") -> Iterator[int]:
    """A mail server that gives `answers` in turn to all lines but those of a mail; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        over = threading.Event()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as lines:
                left = list(answers)
                connection.sendall(left.pop(0))
                for line in lines:
                    if silent_at and line.startswith(silent_at):
                        over.wait(30)
                        return
                    if line.split(b":")[0].split()[0:1] == [b"DATA"]:
                        connection.sendall(b"354 go on\r\n")
                        while lines.readline() not in (b".\r\n", b""):
                            pass
                    connection.sendall(b"250 ok\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        over.set()
        thread.join(60)


def _mail(port: int) -> tuple[Mail, Notice]:
    email = Email(enabled=True, host="127.0.0.1", port=port, admins=[ADMIN])
    notice = Notice(
        notice="n1",
        kind="test",
        episode="n1",
        host="h",
        user="bob",
        uid=None,
        person=None,
        created="2026-11-24T00:00:00Z",
    )
    return Mail(Settings(host="h", notify=Notify(email=email))), notice


async def test_a_server_that_takes_nobody_now_is_asked_again() -> None:
    """A greeting with 554 is not about this mail, so it causes no dead letter."""
    with server(b"554 not today\r\n") as port:
        mail, notice = _mail(port)
        (outcome,) = await mail.deliver(notice, [ADMIN], None)
    assert (outcome.verdict, "554" in outcome.detail) == ("retry", True)


async def test_a_server_that_hangs_at_goodbye_has_the_mail() -> None:
    """A mail that was accepted is delivered, and nobody waits for the end of the connection."""
    with server(b"220 hello\r\n", silent_at=b"QUIT") as port:
        mail, notice = _mail(port)
        began = time.monotonic()
        (outcome,) = await mail.deliver(notice, [ADMIN], None)
    assert outcome.verdict == "delivered"
    assert time.monotonic() - began < 10 * slowness()
