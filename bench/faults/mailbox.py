"""A mail server that accepts mail, defers it, or is switched off."""
# ruff: noqa: N802 - handle_RCPT and its like are aiosmtpd's names

import socket
import threading
from collections import Counter
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller

OK, LATER = "250 ok", "451 4.3.0 try later"


class Mailbox:
    """A mail server that records the recipient, the notice and the Message-ID of each email."""

    def __init__(self) -> None:
        """Choose a free port, and listen on it."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.defers = False
        self.deferred = 0
        self._lock = threading.Lock()
        self._taken: list[tuple[str, EmailMessage]] = []
        self._controller: Controller | None = None
        self.open()

    def open(self) -> None:
        """Start to listen."""
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)
        self._controller.start()

    def close(self) -> None:
        """Stop listening."""
        if self._controller:
            self._controller.stop()
            self._controller = None

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: str, _: Any) -> str:
        """Accept a recipient, or defer it."""
        if self.defers:
            self.deferred += 1
            return LATER
        envelope.rcpt_tos.append(address)
        return OK

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        """Record an email."""
        mail = message_from_bytes(envelope.content, policy=policy.default)
        with self._lock:
            self._taken += [(address.partition("@")[0], mail) for address in envelope.rcpt_tos]
        return OK

    def to(self, user: str) -> int:
        """Return how many different notices a user received."""
        with self._lock:
            return len({str(mail["X-Canhazgpu-Notice"]) for one, mail in self._taken if one == user})

    def repeats(self) -> int:
        """Return how many emails repeat an earlier one."""
        with self._lock:
            count = Counter((one, str(mail["X-Canhazgpu-Notice"])) for one, mail in self._taken)
        return sum(number - 1 for number in count.values())

    def with_changed_ids(self) -> list[str]:
        """Return the notices that arrived with more than one Message-ID."""
        with self._lock:
            pairs = {(str(mail["X-Canhazgpu-Notice"]), str(mail["Message-ID"])) for _, mail in self._taken}
        return [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
