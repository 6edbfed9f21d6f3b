"""A real mail server that fails for a third of the mails, in several ways, and keeps what it accepted."""

# ruff: noqa: N802 - the names are those the mail server looks for

import random
from collections.abc import Callable
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller
from month.people import MAILBOX_FULL
from support.ports import free_port

OK = "250 OK"


class Mailbox:
    """It never accepts a mail and reports a failure: a mail that arrives twice is a fault of the product."""

    def __init__(self, seed: int, now_ms: Callable[[], int]) -> None:
        self._random = random.Random(seed)
        self._now_ms = now_ms
        self.taken: list[tuple[int, str, EmailMessage]] = []
        self.begun = self.failed = 0
        self.port = free_port()
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port, ready_timeout=60)
        self._controller.start()

    def close(self) -> None:
        """Stop it."""
        self._controller.stop()

    def _trouble(self, *answers: str) -> str:
        """Return how this mail fails, or an empty string."""
        answer = self._random.choice(answers) if self._random.random() < 1 / 3 else ""
        self.failed += bool(answer)
        return answer

    async def handle_MAIL(self, server: Any, session: Any, envelope: Any, address: str, _options: Any) -> str:
        """Accept a sender, answer that the server is busy, or disconnect."""
        self.begun += 1
        session.trouble = self._trouble("421 busy", "break", "451 RCPT", "452 DATA")
        if session.trouble == "break":
            server.transport.abort()
            return ""
        if session.trouble.startswith("421"):
            return str(session.trouble)
        envelope.mail_from = address
        return OK

    async def handle_RCPT(
        self, _server: Any, session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        """Accept a recipient, or refuse it for now or for good."""
        if session.trouble.startswith("451"):
            return "451 try again"
        if address.partition("@")[0] in MAILBOX_FULL:
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return OK

    async def handle_DATA(self, _server: Any, session: Any, envelope: Any) -> str:
        """Accept a mail, or refuse it for now."""
        if session.trouble.startswith("452"):
            return "452 no room"
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.taken += [(self._now_ms(), address, mail) for address in envelope.rcpt_tos]
        return OK
