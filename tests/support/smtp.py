"""A real mail server that keeps what it takes, and can be told to misbehave."""

import socket
import time
from collections.abc import Callable
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP

Answer = Callable[[str], str | None]  # A recipient's address -> the refusal, None to take it.


class MailServer(Controller):
    """Listens on a free loopback port."""

    def __init__(self, **options: Any) -> None:
        """Start; `options` are those of aiosmtpd's SMTP, as `require_starttls`."""
        self.mails: list[tuple[float, tuple[str, ...], EmailMessage]] = []
        self.tried: list[tuple[float, str]] = []  # When, and which command it was asked.
        self.refuse_recipient: Answer = lambda _: None
        self.after_data: Callable[[SMTP], str | None] = lambda _: None
        super().__init__(self, hostname="127.0.0.1", port=_free_port(), **options)
        self.start()

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Any, envelope: Any, address: str, _options: list[str]
    ) -> str:
        """Take a recipient or not."""
        self.tried.append((time.monotonic(), address))
        refusal = self.refuse_recipient(address)
        if refusal:
            return refusal
        envelope.rcpt_tos.append(address)
        return "250 ok"

    async def handle_DATA(self, server: SMTP, _session: Any, envelope: Any) -> str:  # noqa: N802
        """Keep a mail, then answer."""
        mail = message_from_bytes(envelope.content, policy=default)
        assert isinstance(mail, EmailMessage)
        self.mails.append((time.monotonic(), tuple(envelope.rcpt_tos), mail))
        return self.after_data(server) or "250 ok"

    def to(self, address: str) -> list[EmailMessage]:
        """Return the mails that went to an address."""
        return [mail for _, recipients, mail in self.mails if address in recipients]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])
