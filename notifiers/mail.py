"""Notices by mail: one mail a notice, to the person and to the administrators."""

import contextlib
import re
import ssl
from collections.abc import Mapping
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path

import aiosmtplib
import anyio
from aiosmtplib import errors

from canhazgpu.config.kinds import ADDRESS
from canhazgpu.config.settings import Settings
from canhazgpu.events.notices import ADMINS, Notice
from canhazgpu.events.text import printable
from canhazgpu.notifiers.outcome import Outcome
from canhazgpu.notifiers.render import lines, subject

DEADLINE = 30.0  # Seconds for one mail, from connecting to the server's last word.
QUIT_TIME = 2.0
STEP = 15.0  # Seconds for one answer of the server.
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_ADDRESS = re.compile(ADDRESS)
PERMANENT = range(500, 600)
LOGIN_CODES = (530, 534, 535, 538)  # The settings are wrong, not the mail: it waits.


class Mail:
    """The channel `email`. A mail goes again only to those whom the server did not take."""

    name = "email"

    def __init__(self, settings: Settings) -> None:
        """Take server and addresses from the settings."""
        self._settings = settings.notify.email
        self._host = settings.host
        self._sender = self._settings.sender or f"canhazgpu@{settings.host}"

    async def recipients(self, notice: Notice) -> list[str]:
        """Return the person's address, if there is one; of violations administrators hear too."""
        if notice.to:
            return [notice.to if "@" in notice.to else self._address(notice.to) or notice.to]
        if notice.audience == ADMINS:
            return list(self._settings.admins)
        person = self._address(notice.person) if notice.person else None
        return [person] if person else []

    def _address(self, user: str) -> str | None:
        if not self._settings.user_address or not _USER.fullmatch(user):
            return None
        return self._settings.user_address.replace("{user}", user)

    async def deliver(self, notice: Notice, recipients: list[str], first: str | None) -> list[Outcome]:
        """Send one mail to `recipients`; one Outcome for each."""
        good = [address for address in recipients if _ADDRESS.fullmatch(address)]
        bad = [Outcome(one, "failed", "is no mail address") for one in recipients if one not in good]
        if not good:
            return bad
        try:
            with anyio.fail_after(DEADLINE):
                return bad + await self._send(await self.message(notice, first), good)
        except TimeoutError:
            return bad + [Outcome(one, "retry", f"no end within {DEADLINE:g} s") for one in good]

    async def message(self, notice: Notice, first: str | None) -> EmailMessage:
        """Return the mail. The same notice gives the same Message-ID, so that a copy is recognised."""
        addresses = await self.recipients(notice)
        person = self._address(notice.person) if notice.person else None
        mail = EmailMessage()
        mail["Subject"] = subject(notice)
        mail["From"] = self._sender
        mail["To"] = _header(addresses[0]) if person else [_header(one) for one in addresses]
        if person and addresses[1:]:
            mail["Cc"] = [_header(one) for one in addresses[1:]]
        mail["Date"] = format_datetime(datetime.fromisoformat(notice.created))
        mail["Message-ID"] = self._message_id(notice.notice)
        if first and first != notice.notice:
            mail["In-Reply-To"] = mail["References"] = self._message_id(first)
        mail["Auto-Submitted"] = "auto-generated"
        mail["X-Canhazgpu-Notice"] = printable(notice.notice)
        mail.set_content("\n".join([*lines(notice), "", "--", f"canhazgpu on {printable(self._host)}", ""]))
        return mail

    def _message_id(self, notice: str) -> str:
        return f"<{printable(notice)}@{self._host}>"

    async def _send(self, mail: EmailMessage, recipients: list[str]) -> list[Outcome]:
        tls = self._settings.tls
        client = aiosmtplib.SMTP(
            hostname=self._settings.host,
            port=self._settings.port,
            use_tls=tls == "tls",
            start_tls=tls == "starttls",
            timeout=STEP,
        )
        try:
            await client.connect()
            if self._settings.username:
                await client.login(self._settings.username, self._password())
            refused, _ = await client.send_message(mail, sender=self._sender, recipients=recipients)
            await _part(client)
        except errors.SMTPConnectResponseError as error:  # Whatever its code: it says nothing of this mail.
            return [Outcome(one, "retry", _short(f"{error.code} {error.message}")) for one in recipients]
        except errors.SMTPRecipientsRefused as error:
            refusals = {one.recipient: (one.code, one.message) for one in error.recipients}
            return _outcomes(recipients, refusals)
        except errors.SMTPAuthenticationError as error:
            return [
                Outcome(one, "retry", f"the server refuses our login ({error.code})") for one in recipients
            ]
        except errors.SMTPResponseException as error:
            return _outcomes(recipients, dict.fromkeys(recipients, (error.code, error.message)))
        except (errors.SMTPException, ssl.SSLError, OSError) as error:
            return [Outcome(one, "retry", _short(f"{type(error).__name__}: {error}")) for one in recipients]
        finally:
            client.close()
        return _outcomes(recipients, {one: (answer[0], answer[1]) for one, answer in refused.items()})

    def _password(self) -> str:
        try:
            return Path(self._settings.password_file).read_text(encoding="utf-8").strip()
        except UnicodeDecodeError:
            raise OSError("the file in notify.email.password_file is no text") from None


async def _part(client: aiosmtplib.SMTP) -> None:
    """Say goodbye; the mail has been taken, whatever comes of it."""
    with anyio.move_on_after(QUIT_TIME, shield=True), contextlib.suppress(errors.SMTPException, OSError):
        await client.quit()


def _header(address: str) -> Address | str:
    return Address(addr_spec=address) if _ADDRESS.fullmatch(address) else "undisclosed-recipients:;"


def _outcomes(recipients: list[str], refused: Mapping[str, tuple[int, str]]) -> list[Outcome]:
    return [
        _outcome(one, *refused[one]) if one in refused else Outcome(one, "delivered") for one in recipients
    ]


def _outcome(recipient: str, code: int, text: str) -> Outcome:
    lasting = code in PERMANENT and code not in LOGIN_CODES
    return Outcome(recipient, "failed" if lasting else "retry", _short(f"{code} {text}"))


def _short(text: str) -> str:
    return printable(" ".join(text.split()), 200)
