"""A real mail server that can be told to misbehave, to speak TLS and to want a login."""
# ruff: noqa: N802 - handle_MAIL and its like are aiosmtpd's names

import ssl
import time
from collections.abc import Callable
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from support.ports import free_port

TRY_LATER, NEVER, OK = "451 4.3.0 \x1b[31mtry later", "550 5.1.1 no such user", "250 ok"
Answer = Callable[[str, str], str]  # A command and its address -> what the server says; "" breaks off.


class Server:
    """A mail server that answers as it is told, and keeps what it took."""

    def __init__(
        self,
        starttls: ssl.SSLContext | None = None,
        tls: ssl.SSLContext | None = None,
        login: tuple[str, str] | None = None,
    ) -> None:
        self.answer: Answer = lambda _command, _address: OK
        self.asked: list[str] = []
        self.taken: list[tuple[float, list[str], EmailMessage]] = []
        self.lost: list[EmailMessage] = []
        self.port = free_port()
        self.logins: list[bool] = []
        self._login = login
        self.controller = Controller(
            self,
            hostname="127.0.0.1",
            port=self.port,
            ssl_context=tls,
            tls_context=starttls,
            require_starttls=starttls is not None,
            authenticator=self._check,
            auth_required=login is not None,
            auth_require_tls=tls is None,
            ready_timeout=60,
        )
        self.controller.start()

    def _check(self, _server: Any, session: Any, _envelope: Any, _mechanism: str, said: Any) -> AuthResult:
        assert session.ssl or self.controller.ssl_context, "a password in plain text"
        assert isinstance(said, LoginPassword)
        known = self._login == (said.login.decode(), said.password.decode())
        self.logins.append(known)
        return AuthResult(success=known, handled=False)

    def _say(self, server: Any, command: str, address: str = "") -> str:
        self.asked.append(command)
        answer = self.answer(command, address)
        if not answer:
            server.transport.abort()
        return answer

    async def handle_MAIL(self, server: Any, _: Any, envelope: Any, address: str, _options: Any) -> str:
        """Take a sender or not."""
        answer = self._say(server, "MAIL", address)
        if answer == OK:
            envelope.mail_from = address
        return answer

    async def handle_RCPT(self, server: Any, _: Any, envelope: Any, address: str, _options: Any) -> str:
        """Take a recipient or not."""
        answer = self._say(server, "RCPT", address)
        if answer == OK:
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: Any, _session: Any, envelope: Any) -> str:
        """Take a mail or not."""
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        answer = self._say(server, "DATA")
        if answer == OK:
            self.taken.append((time.monotonic(), list(envelope.rcpt_tos), mail))
        else:
            self.lost.append(mail)
        return answer

    async def handle_QUIT(self, server: Any, _session: Any, _envelope: Any) -> str:
        """Say goodbye or not."""
        return self._say(server, "QUIT").replace("250", "221")

    @property
    def tries(self) -> int:
        """How often a mail was begun."""
        return self.asked.count("MAIL")
