"""The channel `email`: sends each notice as one mail with a text and an HTML part."""

import contextlib
import hashlib
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

from canhazgpu.config.fields import ADDRESS
from canhazgpu.config.settings import Settings
from canhazgpu.events.notices import ADMINS, Notice
from canhazgpu.events.sanitize import printable
from canhazgpu.notifiers.channels.mail_addresses import Addresses
from canhazgpu.notifiers.messages.html_page import page
from canhazgpu.notifiers.messages.plain_text import lines, subject
from canhazgpu.notifiers.outcome import Outcome

DEADLINE = 30.0  # Timeout of one mail in seconds, from connecting to the last answer.
QUIT_TIME = 2.0
STEP = 15.0  # Seconds for one answer of the server.
_ADDRESS = re.compile(ADDRESS)
PERMANENT = range(500, 600)
LOGIN_CODES = (530, 534, 535, 538)  # The settings are wrong, not the mail, so retry.


class Mail:
    """The channel `email`. A mail is sent again only to recipients that the server did not accept."""

    name = "email"

    def __init__(self, settings: Settings) -> None:
        """Take the server and the addresses from the settings."""
        self._settings = settings.notify.email
        self._host = settings.host
        self._sender = self._settings.sender or f"canhazgpu@{settings.host}"
        self._addresses = Addresses(self._settings)

    async def recipients(self, notice: Notice) -> list[str]:
        """Return the address of the person, those of the administrators, or the one in the notice.

        If the person has no address, there is no recipient, and the next step is brought forward.
        """
        if notice.to:
            return [notice.to if "@" in notice.to else await self._addresses.of(notice.to) or notice.to]
        if notice.audience == ADMINS:
            return list(dict.fromkeys(self._settings.admins))
        address = await self._addresses.of(notice.person) if notice.person else None
        return [address] if address else []

    async def deliver(self, notice: Notice, recipients: list[str], first: str | None) -> list[Outcome]:
        """Send one mail to `recipients`; one Outcome for each."""
        good = [address for address in recipients if _ADDRESS.fullmatch(address)]
        bad = [Outcome(one, "failed", "not an email address") for one in recipients if one not in good]
        if not good:
            return bad
        try:
            with anyio.fail_after(DEADLINE):
                return bad + await self._send(self.message(notice, good, first), good)
        except TimeoutError:
            return bad + [Outcome(one, "retry", f"not finished within {DEADLINE:g} s") for one in good]

    def message(self, notice: Notice, recipients: list[str], first: str | None) -> EmailMessage:
        """Return the mail. Its Message-ID depends only on the notice, so duplicates can be recognised."""
        mail = EmailMessage()
        mail["Subject"] = subject(notice)
        mail["From"] = self._sender
        mail["To"] = [_header(one) for one in self._named(notice) or recipients]
        mail["Date"] = format_datetime(datetime.fromisoformat(notice.created))
        mail["Message-ID"] = self._message_id(notice.notice)
        if first and first != notice.notice:
            mail["In-Reply-To"] = mail["References"] = self._message_id(first)
        mail["Auto-Submitted"] = "auto-generated"
        mail["X-Canhazgpu-Notice"] = printable(notice.notice)
        mail.set_content("\n".join([*lines(notice), "", "--", f"canhazgpu on {printable(self._host)}", ""]))
        mail.add_alternative(page(notice), subtype="html")
        # A mail that is sent again is identical.
        mail.set_boundary(f"={hashlib.sha256(notice.notice.encode()).hexdigest()[:40]}=")
        return mail

    def _named(self, notice: Notice) -> list[str]:
        """Return the administrators for the To header, also if only one of them gets this copy."""
        return self._settings.admins if notice.audience == ADMINS and not notice.to else []

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
            await client.connect(tls_context=self._trust() if tls != "none" else None)
            if self._settings.username:
                await client.login(self._settings.username, self._password())
            refused, _ = await client.send_message(mail, sender=self._sender, recipients=recipients)
            await _part(client)
        except (errors.SMTPConnectResponseError, errors.SMTPSenderRefused) as error:
            # Whatever the code, it is not about the recipients of this mail.
            return [Outcome(one, "retry", _short(f"{error.code} {error.message}")) for one in recipients]
        except errors.SMTPRecipientsRefused as error:
            refusals = {one.recipient: (one.code, one.message) for one in error.recipients}
            return _outcomes(recipients, refusals)
        except errors.SMTPAuthenticationError as error:
            return [
                Outcome(one, "retry", f"the server rejects the login ({error.code})") for one in recipients
            ]
        except errors.SMTPResponseException as error:
            return _outcomes(recipients, dict.fromkeys(recipients, (error.code, error.message)))
        except (errors.SMTPException, ssl.SSLError, OSError) as error:
            return [Outcome(one, "retry", _short(f"{type(error).__name__}: {error}")) for one in recipients]
        finally:
            client.close()
        return _outcomes(recipients, {one: (answer[0], answer[1]) for one, answer in refused.items()})

    def _trust(self) -> ssl.SSLContext:
        """Return the TLS context: the host's CAs and those of `ca_file`; host names are verified."""
        context = ssl.create_default_context()
        if self._settings.ca_file:
            try:
                context.load_verify_locations(self._settings.ca_file)
            except OSError as error:
                why = (
                    "is not in PEM format"
                    if isinstance(error, ssl.SSLError)
                    else f"cannot be read: {error.strerror}"
                )
                raise OSError(f"the file in notify.email.ca_file {why}") from None
        return context

    def _password(self) -> str:
        try:
            return Path(self._settings.password_file).read_text(encoding="utf-8").strip()
        except UnicodeDecodeError:
            raise OSError("the file in notify.email.password_file is not text") from None


async def _part(client: aiosmtplib.SMTP) -> None:
    """Quit. Errors do not matter, because the mail has been accepted."""
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
