"""Reads a settings file that is written plainly; `tomllib` would take as long as the rest of a command.

A file that has anything but comments, tables, and values on one line without escapes is left to `tomllib`,
and so is every mistake.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
LONGEST_NUMBER = 15
BLANKS = " \t"


def plain_settings(data: bytes) -> dict[str, Any] | None:
    """Return what tomllib.loads returns for this file, or None if the file is not plain."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    if not text.replace("\t", " ").replace("\n", " ").isprintable():
        return None
    found: dict[str, Any] = {}
    table, headers = found, {id(found)}
    for row in text.split("\n"):
        line = row.strip(BLANKS)
        if not line or line[0] == "#":
            continue
        if line[0] == "[":
            named = _below(found, line[1:-1]) if line[-1] == "]" else None
            if named is None or named or id(named) in headers:  # Has it keys, it may be there already.
                return None
            table = named
            headers.add(id(table))
        elif not _set(table, line):
            return None
    return found


def _set(table: dict[str, Any], line: str) -> bool:
    key, equals, rest = line.partition("=")
    path, _, name = key.rstrip(BLANKS).rpartition(".")
    home = _below(table, path) if path else table
    value = _value(rest.strip(BLANKS))
    if not equals or value is None or home is None or not _is_name(name) or name in home:
        return False
    home[name] = value
    return True


def _below(table: dict[str, Any], path: str) -> dict[str, Any] | None:
    """Return the table at a path of plain names below `table`; None where there cannot be one."""
    for word in path.split("."):
        inner = table.setdefault(word, {}) if _is_name(word) else None
        if not isinstance(inner, dict):
            return None
        table = inner
    return table


def _is_name(word: str) -> bool:
    return bool(word) and NAME.issuperset(word)


def _value(text: str) -> Any:
    """Return a value, or None if it is not plain."""
    if text[:1] == '"':
        found = _string(text)
        return found[0] if found and _is_end(found[1]) else None
    if text[:1] == "[":
        return _strings(text[1:])
    word = text.partition("#")[0].rstrip(BLANKS)
    if word in ("true", "false"):
        return word == "true"
    plain = word.isascii() and word.isdecimal() and len(word) <= LONGEST_NUMBER
    return int(word) if plain and (word == "0" or word[0] != "0") else None


def _string(text: str) -> tuple[str, str] | None:
    """Return the string at the beginning of `text`, and what follows."""
    inner, quote, after = text[1:].partition('"')
    return (inner, after) if text[:1] == '"' and quote and "\\" not in inner else None


def _strings(text: str) -> list[str] | None:
    """Return the strings of an array, whose `[` has been read."""
    found: list[str] = []
    rest = text.lstrip(BLANKS)
    while rest[:1] != "]":
        one = _string(rest)
        if not one:
            return None
        found.append(one[0])
        rest = one[1].lstrip(BLANKS)
        if rest[:1] == ",":
            rest = rest[1:].lstrip(BLANKS)
        elif rest[:1] != "]":
            return None
    return found if _is_end(rest[1:]) else None


def _is_end(text: str) -> bool:
    rest = text.lstrip(BLANKS)
    return not rest or rest[0] == "#"
