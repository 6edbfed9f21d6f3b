"""The head file beside the audit log: where the chain ends, and where it stood when the log's file began.

Lines cut off either end are missed by it. It is replaced after each line, before the first one of a file
too, and never fsynced: a crash leaves it behind the log, never ahead of it.
"""

import contextlib
import errno
import os
import stat
from pathlib import Path

import msgspec

from canhazgpu.notifiers.chain import Head

_LONGEST = 4096


class Anchor(msgspec.Struct, frozen=True):
    """What the file holds; `begin` is None where it is not known after which line the log's file began."""

    head: Head
    begin: Head | None = None


class NoAnchor(ValueError):
    """The head file does not hold a head: it was damaged, or written by something else."""


def anchor_path(log: Path) -> Path:
    """Return where the head of this log is kept."""
    return log.with_name(f".{log.name}.head")


def read_anchor(log: Path) -> Anchor | None:
    """Return what was kept last, None when there is no file.

    Raises NoAnchor when it holds something else, OSError when it cannot be read.
    """
    path = anchor_path(log)
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError(errno.EINVAL, "Not a regular file", str(path))
        return msgspec.json.decode(os.read(file, _LONGEST), type=Anchor)
    except (ValueError, RecursionError) as error:
        raise NoAnchor(str(error)) from error
    finally:
        os.close(file)


def write_anchor(log: Path, anchor: Anchor) -> None:
    """Keep `anchor`: a reader finds it or the one before, whole. OSError when it cannot be written."""
    path = anchor_path(log)
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
