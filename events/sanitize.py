"""Makes text from users safe to print: one line, printable, bounded. No character is dropped silently."""

from __future__ import annotations

# Separators of lines, format characters (bidi, zero width), controls, surrogates, private use, unassigned.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
NAME_LIMIT = 64
LONGEST_WORDS = 200  # Of a reason, a note and the like.
# How people name a GPU otherwise than by its index: the beginning of a UUID, as in GPU-8f3c or MIG-41.
UUID_START = "[A-Za-z]+-[A-Za-z0-9./_-]{0,127}"


def printable(text: str | bytes, limit: int = NAME_LIMIT) -> str:
    r"""Return `text` on one line with every invisible character spelled out (`\x1b`, `\u202e`).

    Bytes are read as UTF-8; a byte that is not is spelled out too. At most `limit` characters are
    returned, the last of them `…` when something was cut. Applying it twice changes nothing.
    """
    if isinstance(text, str) and len(text) <= limit and text.isascii() and text.isprintable():
        return text
    if isinstance(text, bytes):
        text = text[: (limit + 1) * 4].decode("utf-8", "backslashreplace")
    shown: list[str] = []
    length = 0
    for character in text[: limit + 1]:
        piece = _visible(character)
        if length + len(piece) > limit:
            return _cut(shown, limit)
        shown.append(piece)
        length += len(piece)
    return "".join(shown)


def _cut(pieces: list[str], limit: int) -> str:
    while pieces and sum(map(len, pieces)) > limit - 1:
        pieces.pop()
    return "".join(pieces) + "…"


def _visible(character: str) -> str:
    if " " <= character <= "~":
        return character
    import unicodedata  # noqa: PLC0415 - a large file, which hardly a name needs

    if unicodedata.category(character) in _HIDDEN or (character.isspace() and character != " "):
        return character.encode("unicode_escape").decode("ascii")
    return character
