r"""The chain through the audit log: each line ends with its number and with a hash over all before it.

A line is `BODY, "seq": N, "chain": "VALUE"}` and a line feed. N is 1, 2, 3 … over the life of the log.
VALUE is the SHA-256, as 64 small hex digits, of the VALUE of the line before (64 zeros before the first
line) and the bytes of this line up to, not including, `, "chain": `. Nothing here reads or writes a file.
"""

import hashlib
import re
from typing import Annotated

import msgspec

LONGEST = 1024 * 1024  # Maximum length of a line in bytes, far more than any event needs.
_LAST_FIELD = b', "chain": "%b"}\n'
_LENGTH = len(_LAST_FIELD % (b"0" * 64))
_END = re.compile(rb', "seq": ([1-9][0-9]{0,17}), "chain": "([0-9a-f]{64})"\}\n\Z')
_LONGEST_END = _LENGTH + len(', "seq": ') + 18


class Head(msgspec.Struct, frozen=True):
    """The end of a chain: the number and the chain value of its last line."""

    seq: Annotated[int, msgspec.Meta(ge=0, lt=10**18)]
    chain: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]

    def leads_to(self, link: "Link") -> bool:
        """Return whether `link` was hashed over this head, whatever their numbers are."""
        return value(self.chain, link.body) == link.chain


class Link(msgspec.Struct, frozen=True):
    """A line of a chain: its number, its chain value, and the bytes that were hashed."""

    seq: int
    chain: str
    body: bytes

    @property
    def head(self) -> Head:
        """The head of the chain after this line."""
        return Head(self.seq, self.chain)


START = Head(0, "0" * 64)


def value(before: str, body: bytes) -> str:
    """Return the chain value of a line, computed from the previous value and its own bytes."""
    return hashlib.sha256(before.encode("ascii") + body).hexdigest()


def seal(line: bytes, head: Head) -> tuple[bytes, Head]:
    """Return `line` with `seq` and `chain` added, as the line after `head`, and the new head.

    `line` is a JSON object with at least one field, without `seq` and `chain`, and a line feed. Raises
    ValueError if it does not end like one.
    """
    if not line.endswith(b"}\n"):
        raise ValueError("a line of the log is a JSON object and a line feed")
    body = b'%b, "seq": %d' % (line[:-2], head.seq + 1)
    chain = value(head.chain, body)
    return body + _LAST_FIELD % chain.encode("ascii"), Head(head.seq + 1, chain)


def link_of(line: bytes) -> Link | None:
    """Return the chain fields of `line`, or None if it was not written by `seal`."""
    found = _END.search(line, max(0, len(line) - _LONGEST_END))
    if found is None:
        return None
    return Link(int(found[1]), found[2].decode("ascii"), line[:-_LENGTH])


def is_plain(line: bytes) -> bool:
    """Return whether `line` is from before the chain existed: a JSON object without `chain`."""
    fields = fields_of(line)
    return fields is not None and "chain" not in fields


def fields_of(line: bytes) -> dict[str, object] | None:
    """Return the fields of a line, or None if it is not a JSON object."""
    try:
        fields = msgspec.json.decode(line)
    except (ValueError, RecursionError):  # Also bytes that are no UTF-8.
        return None
    return fields if isinstance(fields, dict) else None
