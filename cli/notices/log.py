"""`canhazgpu log`: verify that the audit log was not changed. Reads only files; needs no running service."""

import errno
import os
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from canhazgpu.cli.arguments import non_empty
from canhazgpu.cli.completion import candidates
from canhazgpu.cli.exit_codes import REFUSED, USAGE, CommandEnded
from canhazgpu.cli.output import examples, fail, print_json
from canhazgpu.events.sanitize import printable

if TYPE_CHECKING:
    from canhazgpu.notifiers.audit_log.chain_verifier import ChainVerifier
    from canhazgpu.notifiers.audit_log.findings import Finding

app = typer.Typer(
    help="Verify the audit log.",
    no_args_is_help=False,
    epilog=examples("canhazgpu log verify", "canhazgpu log verify /var/log/canhazgpu/violations.log"),
)
SENTENCES = {
    "edited": "edited: this line, or the one before it and its chain value: {text}",
    "unsealed": "edited: it does not end with seq and chain: {text}",
    "not_json": "not JSON: {text}",
    "too_long": "the line is too long for the log: {text}",
    "out_of_order": "out of order: {seq} was not written here",
    "duplicated": "duplicated: {seq} already exists",
    "removed": "removed: {seq} missing before this line",
    "removed_at_end": "removed: {seq} missing at the end, after this line",
    "unreadable": "cannot be read from this point: {text}",
    "head_missing": "lines removed at the end cannot be detected: {text}; the next line recreates it",
    "head_differs": "edited: its chain value is not the one in {anchor}",
}
REMEDIES = {
    errno.EACCES: "run this as root or as the service's user",
    errno.EPERM: "run this as root or as the service's user",
    errno.ENOENT: "give the path of the log file, or set notify.log.path",
    errno.ELOOP: "it is a symbolic link; give the path of its target",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.EBUSY: "try again later",
    errno.EIO: "the disk has a read error",
}


@app.command(
    "verify",
    epilog=examples(
        "canhazgpu log verify",
        "canhazgpu log verify /var/log/canhazgpu/violations.log",
        "canhazgpu log verify --json | jq .head",
    ),
)
def verify(
    file: Annotated[
        str | None,
        typer.Argument(
            help="The log file (default: the notify.log.path setting).",
            metavar="[FILE]",
            callback=non_empty,
            autocompletion=candidates.files,
        ),
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check that no line of the audit log was edited or removed; exit 1 if one was.

    Rotated files, plain or .gz, are read too: files with the log's name followed by a number or a date. The
    last line is compared with the hidden file .NAME.head in the same directory.
    """
    from canhazgpu.notifiers.audit_log.verification import verify as check  # noqa: PLC0415 - heavy

    path = Path(file or _configured())
    if file is None and not as_json and _has_not_begun(path):
        sys.stdout.write(f"{printable(str(path), 200)}: there is no line yet.\n")
        return
    _open_as_many_as_there_are()
    try:
        _refuse_part(path)
        proof = check(path)
    except (OSError, ValueError) as error:
        _cannot(path, error)
    if as_json:
        print_json(_report(path, proof))
    else:
        _print(path, proof)
    if proof.findings.listed:
        raise CommandEnded(REFUSED)


def _configured() -> str:
    from canhazgpu.config.load import ConfigError, load  # noqa: PLC0415 - heavy

    try:
        return load().settings.notify.log.path
    except ConfigError as error:
        fail(str(error), USAGE)


def _has_not_begun(path: Path) -> bool:
    """Return whether neither the log, nor its head, nor a rotated file of it is there."""
    try:
        return path.parent.is_dir() and not any(
            name.startswith((path.name, f".{path.name}."))
            for name in os.listdir(path.parent)  # noqa: PTH208
        )
    except OSError:
        return False


def _refuse_part(path: Path) -> None:
    """Exit if `path` is a rotated file of another log, because it proves little by itself."""
    from canhazgpu.notifiers.audit_log.chain_head import chain_head_path  # noqa: PLC0415 - heavy
    from canhazgpu.notifiers.audit_log.rotation import rotated_from  # noqa: PLC0415 - heavy

    base = rotated_from(path)
    if base and chain_head_path(base).exists() and not chain_head_path(path).exists():
        fail(
            f"{printable(str(path), 200)} is a rotated file of {printable(base.name)}: verify that log",
            USAGE,
        )


def _open_as_many_as_there_are() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _cannot(path: Path, error: OSError | ValueError) -> NoReturn:
    too_long = getattr(error, "errno", None) == errno.ENAMETOOLONG  # The head's name is the longer one.
    named = None if too_long else getattr(error, "filename", None)
    name = printable(str(named or path), 200)
    if isinstance(error, OSError):
        remedy = REMEDIES.get(error.errno or 0, REMEDIES[errno.ENOENT])
        fail(f"{name}: {error.strerror or error}; {remedy}", USAGE)
    fail(f"{name}: not a valid file name; {REMEDIES[errno.ENOENT]}", USAGE)


def _report(path: Path, proof: "ChainVerifier") -> dict[str, Any]:
    import msgspec  # noqa: PLC0415 - heavy

    shown = {
        "log": str(path),
        "whole": not proof.findings.listed,
        "files": proof.names,
        "lines": proof.lines,
        "before_chain": proof.before,
        "unfinished": proof.torn,
        "first_seq": proof.first,
        "first_proven": not proof.begins_unproven,
        "head": proof.head,
        "anchor": proof.anchor,
        "findings": [
            {**msgspec.structs.asdict(one), "what": _sentence(path, one)} for one in proof.findings.listed
        ],
        "findings_left_out": proof.findings.left_out,
    }
    return dict(msgspec.to_builtins(shown))


def _print(path: Path, proof: "ChainVerifier") -> None:
    for one in proof.findings.listed:
        sys.stdout.write(_sentence(path, one) + "\n")
    if proof.findings.left_out:
        sys.stdout.write(f"And {proof.findings.left_out} more.\n")
    if not proof.findings.listed:
        sys.stdout.write(" ".join(_summary(proof)) + "\n")


def _sentence(path: Path, one: "Finding") -> str:
    """Return a finding as one line: the file, the line, and what is wrong there."""
    seq = f"seq {one.first_seq}" + (f" to {one.last_seq}" if one.last_seq != one.first_seq else "")
    anchor = f".{path.name}.head"
    what = SENTENCES[one.kind].format(text=one.text, seq=seq, anchor=printable(anchor))
    where = one.file or (anchor if one.kind.startswith("head") else path.name)
    if one.line:
        line = f", line {one.line}" if one.line == one.last_line else f", lines {one.line} to {one.last_line}"
    else:
        line = ""
    if not line and one.kind == "removed_at_end":
        what = f"removed: all lines ({seq}) are missing"
    if not line and one.kind == "head_differs":
        what = f"{seq} is older than every line of the log; it was put there manually"
    return f"{printable(where, 200)}{line}: {what}"


def _summary(proof: "ChainVerifier") -> list[str]:
    """Return the summary of an intact chain."""
    read = f"{_count(len(proof.names), 'file')}, {_count(proof.lines, 'line')}"
    if not proof.head:
        said = [f"{read}: the chain has not started."]
    else:
        said = [f"{read}, seq {proof.first} to {proof.head.seq}: the chain is intact."]
    if proof.first > 1:
        said.append(f"It begins at seq {proof.first}: older files were rotated away.")
    if proof.begins_unproven:
        said.append("The content of that first line cannot be verified.")
    if proof.before:
        said.append(f"{_count(proof.before, 'line')} from before the chain.")
    if proof.torn:
        said.append(f"{_count(proof.torn, 'line')} left incomplete by a writer that died.")
    return said


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
