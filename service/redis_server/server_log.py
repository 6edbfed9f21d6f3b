"""Extracts from a Redis server's log why it ended and whether its file was damaged."""

import re

MANY = 4  # Maximum number of lines to report.
CUT = re.compile(r"Truncating the AOF.*?at offset (\d+)")
BROKEN = re.compile(  # What servers from Redis 6.2 on say of data that they cannot load.
    r"Bad file format reading the append only file"
    r"|Error reading the append only file[^\n]*unknown command"
    r"|Unknown command '[^\n]*' reading the append only file"
    r"|sending an error to its AOF-loading-client"
    r"|AOF MANIFEST FILE ERROR|AOF manifest file|in the AOF manifest"
    r"|Short read or OOM loading DB|Terminating server after rdb file reading failure"
    r"|Error reading the RDB preamble of the append only file"
    r"|Internal error in RDB reading|Wrong signature trying to load DB|Can't handle RDB format version"
    r"|RDB CRC error|Wrong RDB checksum"
    r"|Unable to obtain the AOF file|The AOF file \S+ doesn't exist"
    r"|(?:append-?only (?:dir|file)|AOF)[^\n]*: "
    r"(?:Not a directory|Is a directory|No such file or directory|File exists)"
    r"|==> (?:aof|rdb)\.c:\d+",
    re.IGNORECASE,
)
_PREFIX = re.compile(r"^\d+:[A-Z] .*?\d\d:\d\d:\d\d\.\d+ [.\-*#] ")
_NOISE = re.compile(r"Memory overcommit|oO0OoO0|, just started$|^Configuration loaded|^Server initialized")
_REPORT = re.compile(r"REDIS BUG REPORT START|VALKEY BUG REPORT START")


def last_words(log: bytes) -> str:
    """Return the last relevant lines of a server's log."""
    lines = [_PREFIX.sub("", line.strip()) for line in log.decode("utf-8", "backslashreplace").split("\n")]
    said = [line for line in lines if line and not _NOISE.search(line)]
    report = next((number for number, line in enumerate(said) if _REPORT.search(line)), None)
    if report is not None:  # What follows is pages of registers.
        said = said[: report + 2]
    return "; ".join(said[-MANY:]) or "it printed nothing"


def cut_at(log: bytes) -> int | None:
    """Return the offset at which the server truncated its append-only file at this start, or None."""
    found = CUT.search(log.decode("utf-8", "backslashreplace"))
    return int(found[1]) if found else None


def is_broken(log: bytes) -> bool:
    """Return whether the server ended because its data are damaged, or partly missing."""
    return BROKEN.search(log.decode("utf-8", "backslashreplace")) is not None
