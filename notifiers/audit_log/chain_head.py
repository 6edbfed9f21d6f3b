"""The head file next to the audit log: the end of the chain, and its position at the start of the log file.

It shows when lines were removed at either end. It is replaced after every line, and before the first line of
a file. It is never fsynced: after a crash it may be behind the log, but never ahead of it.
"""

import contextlib
import errno
import os
import stat
from pathlib import Path

import msgspec

from canhazgpu.notifiers.audit_log.hash_chain import Head

_LONGEST = 4096


class ChainHead(msgspec.Struct, frozen=True):
    """The content of the file. `begin` is None if the position at the start of the log file is not known."""

    head: Head
    begin: Head | None = None


class NoChainHead(ValueError):
    """The head file is not valid: it is damaged, or was written by something else."""


def chain_head_path(log: Path) -> Path:
    """Return the path of the head file of a log."""
    return log.with_name(f".{log.name}.head")


def read_chain_head(log: Path) -> ChainHead | None:
    """Return the content of the head file, or None if there is none.

    Raises NoAnchor if it is not valid, and OSError if it cannot be read.
    """
    path = chain_head_path(log)
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError(errno.EINVAL, "Not a regular file", str(path))
        return msgspec.json.decode(os.read(file, _LONGEST), type=ChainHead)
    except (ValueError, RecursionError) as error:
        raise NoChainHead(str(error)) from error
    finally:
        os.close(file)


def write_chain_head(log: Path, anchor: ChainHead) -> None:
    """Replace the head file atomically. Raises OSError if it cannot be written."""
    path = chain_head_path(log)
    new = path.with_name(f"{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        text = msgspec.json.encode(anchor) + b"\n"
        if os.write(file, text) < len(text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(new))
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise
    finally:
        os.close(file)
