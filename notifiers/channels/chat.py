r"""Formats a notice for chat services, so that its text is shown as plain text.

Characters with a meaning for a service are escaped like control characters elsewhere (`\x40` for an @ that
could mention somebody). If the service has markup, the text is a code block as well.
"""

import base64
import re
from collections.abc import Callable, Iterable

import msgspec

from canhazgpu.events.notices import Notice
from canhazgpu.notifiers.messages.plain_text import lines, subject

# Maximum message length of each service, without the marks of a code block. Slack cuts at 40000.
SLACK, MATTERMOST, DISCORD, NTFY = 4000 - 8, 16383 - 8, 2000 - 8, 4096
TITLE = 250  # Characters of a title.
MORE = "… more: canhazgpu status"
# An @ that does not belong to an email address, the marks of code, and what makes a link of an address.
_ACTIVE = re.compile(r"(?<![A-Za-z0-9])@|`|:(?=//)")
JSON, TEXT = "application/json", "text/plain; charset=utf-8"
URGENT, LOUD, NORMAL, QUIET = "5", "4", "3", "2"
KINDS = {
    "opened": (LOUD, "warning"),
    "changed": (LOUD, "warning"),
    "reminder": (LOUD, "warning"),
    "terminate": (URGENT, "rotating_light"),
    "expiring": (LOUD, "hourglass_flowing_sand"),
    "idle": (NORMAL, "zzz"),
    "stalled": (LOUD, "warning"),
    "gpu-failed": (LOUD, "warning"),
    "channel-failing": (LOUD, "warning"),
    "granted": (NORMAL, "white_check_mark"),
    "resolved": (QUIET, "white_check_mark"),
    "resumed": (QUIET, "white_check_mark"),
    "gpu-recovered": (QUIET, "white_check_mark"),
    "channel-recovered": (QUIET, "white_check_mark"),
    "digest": (QUIET, "bar_chart"),
}
OTHER = (NORMAL, "bell")

Encoded = tuple[bytes, dict[str, str]]  # A request's body and headers.


def encode(notice: Notice, body: str) -> Encoded:
    """Return the body and the headers of a request; `body` is a body type of the settings."""
    makers: dict[str, Callable[[Notice], Encoded]] = {
        "json": _json,
        "slack": _slack,
        "mattermost": _mattermost,
        "discord": _discord,
        "ntfy": _ntfy,
    }
    return makers[body](notice)


def _json(value: object) -> Encoded:
    return msgspec.json.encode(value), {"Content-Type": JSON}


def _slack(notice: Notice) -> Encoded:
    text = (_escaped(line) for line in _text(notice))
    return _json({"text": _block(_cut(text, SLACK, len))})


def _mattermost(notice: Notice) -> Encoded:
    return _json({"text": _block(_cut(_text(notice), MATTERMOST, len))})


def _discord(notice: Notice) -> Encoded:
    text = _block(_cut(_text(notice), DISCORD, _utf16))
    return _json({"content": text, "allowed_mentions": {"parse": []}})


def _ntfy(notice: Notice) -> Encoded:
    priority, tag = KINDS.get(notice.kind, OTHER)
    title = _header(harmless(subject(notice), notice.contact)[:TITLE])
    headers = {"Content-Type": TEXT, "Title": title, "Priority": priority, "Tags": tag}
    text = (harmless(line, notice.contact) for line in lines(notice))
    return "\n".join(_cut(text, NTFY, _bytes)).encode(), headers


def _text(notice: Notice) -> Iterable[str]:
    return (harmless(line, notice.contact) for line in (subject(notice), *lines(notice)))


def harmless(text: str, contact: str = "") -> str:
    """Return `text` with mentions, links and code marks escaped, except in the configured contact."""
    if contact and contact in text:
        return contact.join(harmless(part) for part in text.split(contact))
    return _ACTIVE.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def _escaped(text: str) -> str:
    """Return `text` with Slack's control characters escaped."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _block(text: Iterable[str]) -> str:
    return "\n".join(["```", *text, "```"])


def _cut(text: Iterable[str], most: int, size: Callable[[str], int]) -> list[str]:
    """Return the lines that fit into `most`, as counted by `size`; if some do not, the last one says so."""
    kept: list[str] = []
    left = most - size(MORE) - 1
    for line in text:
        left -= size(line) + 1
        if left < 0:
            return [*kept, MORE]
        kept.append(line)
    return kept


def _bytes(text: str) -> int:
    return len(text.encode())


def _utf16(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _header(text: str) -> str:
    """Return `text` as a header value, encoded by RFC 2047 if it is not plain ASCII."""
    if text.isascii() and text.isprintable() and "=?" not in text:
        return text
    return f"=?UTF-8?B?{base64.b64encode(text.encode()).decode()}?="
