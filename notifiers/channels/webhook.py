"""The channel `webhook`: posts notices to a URL, as signed JSON or in the format of a chat service.

The URL and the server's answer may contain secrets, so neither appears in an outcome, a log line or an error.
Those contain only texts of ours, of the system and of OpenSSL.
"""

import hashlib
import hmac
import http
import logging
import os
import re
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import httpx
from anyio import to_thread

from canhazgpu.config.channels import Webhook as Target
from canhazgpu.events.durations import parse_duration
from canhazgpu.events.notices import Notice
from canhazgpu.events.sanitize import printable
from canhazgpu.notifiers.channels.chat import encode
from canhazgpu.notifiers.outcome import Outcome

LATER = frozenset({408, 425, 429})  # And all from 500 on: problems of the server, not of the notice.
OTHER_NAME = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH
_URL = re.compile(r"https?://\S+")


class Unusable(Exception):
    """A file named in the settings is not usable; the message does not contain its content."""


class Webhook:
    """A channel `webhook:NAME`. Its name is the only recipient of all notices."""

    def __init__(self, name: str, target: Target) -> None:
        """Store the target. Its files are read for each delivery, so that secrets can be changed."""
        self.name = f"webhook:{name}"
        self._recipient = name
        self._target = target
        self._timeout = parse_duration(target.timeout)
        for library in ("httpx", "httpcore"):  # They would log the URL.
            logging.getLogger(library).setLevel(logging.WARNING)

    async def recipients(self, notice: Notice) -> list[str]:
        """Return the name of the target."""
        del notice
        return [self._recipient]

    async def deliver(self, notice: Notice, recipients: list[str], first: str | None) -> list[Outcome]:
        """Post the notice once."""
        del first
        verdict = await self._attempt(notice)
        return [Outcome(one, *verdict) for one in recipients]

    async def _attempt(self, notice: Notice) -> tuple[str, str]:
        try:
            with anyio.fail_after(self._timeout):
                return _verdict(await self._post(notice))
        except TimeoutError:
            return "retry", f"no answer within {self._target.timeout}"
        except Unusable as unusable:  # The settings are wrong, not the notice, so retry.
            return "retry", str(unusable)
        except Exception as error:  # noqa: BLE001 - whatever it is, its text may hold the address
            return "retry", _reason(error)

    async def _post(self, notice: Notice) -> int:
        """Return the status of the answer; the body is not read."""
        url, content, headers, trust = await to_thread.run_sync(self._prepare, notice)
        async with (
            httpx.AsyncClient(verify=trust, timeout=None) as client,  # noqa: S113 - _attempt has one for all of it
            client.stream("POST", url, content=content, headers=headers) as answer,
        ):
            return answer.status_code

    def _prepare(self, notice: Notice) -> tuple[str, bytes, dict[str, str], ssl.SSLContext]:
        """Return the parts of the request: URL, body, headers and TLS context."""
        content, headers = encode(notice, self._target.body)
        moment = str(int(time.time()))
        headers |= {
            "User-Agent": "canhazgpu",
            "X-Canhazgpu-Notice": printable(notice.notice),
            "X-Canhazgpu-Timestamp": moment,
        }
        if self._target.secret_file:
            secret = _read("secret_file", self._target.secret_file)
            headers["X-Canhazgpu-Signature"] = f"sha256={signature(secret, moment, content)}"
        return self._url(), content, headers, ssl.create_default_context()

    def _url(self) -> str:
        if not self._target.url_file:
            return self._target.url
        url = _read("url_file", self._target.url_file).decode("utf-8", "replace")
        if not _URL.fullmatch(url):
            raise Unusable("its url_file does not contain a URL")
        return url


def signature(secret: bytes, timestamp: str, content: bytes) -> str:
    """Return the HMAC-SHA256 of timestamp, a dot and the body, in hexadecimal digits."""
    return hmac.new(secret, timestamp.encode() + b"." + content, hashlib.sha256).hexdigest()


def _read(key: str, path: str) -> bytes:
    try:
        content = Path(path).read_bytes().strip()
    except OSError as error:
        raise Unusable(f"its {key} cannot be read: {error.strerror}") from error
    if not content:
        raise Unusable(f"its {key} is empty")
    return content


def _verdict(status: int) -> tuple[str, str]:
    if http.HTTPStatus.OK <= status < http.HTTPStatus.MULTIPLE_CHOICES:
        return "delivered", ""
    try:
        said = f"{status} {http.HTTPStatus(status).phrase}"
    except ValueError:
        said = str(status)
    if status in LATER or status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
        return "retry", said
    redirected = http.HTTPStatus.MULTIPLE_CHOICES <= status < http.HTTPStatus.BAD_REQUEST
    return "failed", f"{said}: redirects are not followed" if redirected else said


def _reason(error: BaseException) -> str:
    """Return why there was no answer, without text from the server."""
    for one in _causes(error):
        if isinstance(one, ssl.SSLCertVerificationError):
            why = "it is for another name" if one.verify_code in OTHER_NAME else one.verify_message
            return f"its certificate is not trusted: {why}"
        if isinstance(one, socket.gaierror):
            return "its host name is not known"
        if isinstance(one, ssl.SSLError):
            return "TLS failed"
        if isinstance(one, OSError) and one.errno:
            return os.strerror(one.errno)
    return type(error).__name__


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the causes of an error, the first cause first."""
    if error is None:
        return
    yield from _causes(error.__cause__ or error.__context__)
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _causes(inner)
    yield error
