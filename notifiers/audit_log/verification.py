"""Reads a log and its rotated files line by line and checks the chain. It writes nothing."""

import errno
from io import BufferedIOBase
from pathlib import Path

from canhazgpu.notifiers.audit_log.chain_head import NoChainHead, read_chain_head
from canhazgpu.notifiers.audit_log.chain_verifier import ChainVerifier
from canhazgpu.notifiers.audit_log.rotation import (
    DAMAGED,
    can_be_read,
    files_of,
    in_order,
    open_all_files,
    read_lines,
)


def verify(log: Path) -> ChainVerifier:
    """Check a log and return the result; the log may be written and rotated at the same time.

    Raises OSError if a file is missing, not regular or not readable, and ValueError if `log` is not a valid
    path. Problems with the lines are part of the result.
    """
    try:  # Read the head first: lines written later come after it.
        anchor, fault = read_chain_head(log), ""
    except NoChainHead as damaged:
        anchor, fault = None, str(damaged)
    if not anchor and not files_of(log):
        raise FileNotFoundError(errno.ENOENT, "There is no such log", str(log))
    proof = ChainVerifier(anchor.head if anchor else None, fault, anchor.begin if anchor else None)
    with open_all_files(log) as parts:
        for path, stream in in_order(parts, log):
            proof.open(path.name, live=path == log)
            if can_be_read(path):
                _read(stream, proof)
            else:
                proof.damaged("it is not in gzip format; decompress it")
    proof.end()
    return proof


def _read(stream: BufferedIOBase, proof: ChainVerifier) -> None:
    try:
        for line in read_lines(stream):
            proof.take(line)
    except DAMAGED as error:
        proof.damaged(str(error))
