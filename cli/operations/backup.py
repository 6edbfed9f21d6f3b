"""`canhazgpu backup` and `restore`: save this host's Redis data to a file and load it again; root only."""

import errno
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from canhazgpu.cli.arguments import non_empty
from canhazgpu.cli.completion import candidates
from canhazgpu.cli.exit_codes import REFUSED
from canhazgpu.cli.operations.offline_access import Progress, on_state
from canhazgpu.cli.output import examples, fail, print_json
from canhazgpu.events.sanitize import printable

if TYPE_CHECKING:
    from canhazgpu.events.redis_client.store import Store

BACKUP_EPILOG = examples(
    "canhazgpu backup /var/backups/canhazgpu.backup", "canhazgpu backup state.backup --json | jq .keys"
)
RESTORE_EPILOG = examples(
    "systemctl stop canhazgpu",
    "canhazgpu restore /var/backups/canhazgpu.backup",
    "systemctl start canhazgpu",
)
File = Annotated[
    str,
    typer.Argument(
        metavar="FILE", help="The backup file.", autocompletion=candidates.files, callback=non_empty
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def backup(file: File, *, as_json: Json = False) -> None:
    """Save this host's Redis data to a file (root only).

    The service may be running. The backup is a consistent snapshot. An existing file is replaced only when
    the new one is complete.
    """
    path = Path(file)
    _refuse_what_is_no_file(file)

    async def work(store: "Store") -> dict[str, Any]:
        try:
            return await copy(store)
        except OSError as error:
            fail(_not_written(path, error), REFUSED)

    async def copy(store: "Store") -> dict[str, Any]:
        from canhazgpu.service.backup.archive import Head, Key, Writer  # noqa: PLC0415 - heavy
        from canhazgpu.service.backup.state_copy import read_snapshot  # noqa: PLC0415

        facts: Any = await store.ask(store.redis.info("server"))
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        head = Head(host=store.keys.host, at=at, server=str(facts.get("redis_version", "")))
        with Writer(path, head) as writer, Progress("copied") as progress:
            keys = set()
            async for record in read_snapshot(store):
                writer.write(record)
                if isinstance(record, Key):
                    keys.add(record.name)
                    progress.at(len(keys))
            size = writer.finish()
        return {"file": file, "host": head.host, "at": at, "keys": len(keys), "bytes": size}

    done = on_state(work, alone=False, about=file)
    if as_json:
        print_json(done)
    else:
        sys.stdout.write(f"{printable(file, 300)}: {done['keys']} keys, {done['bytes']} bytes.\n")


def _refuse_what_is_no_file(file: str) -> None:
    name = printable(file, 300)
    if file.endswith("/") or os.path.isdir(file):  # noqa: PTH112 - `Path` drops the slash
        fail(
            f"{name} is a directory: name a file in it, such as {name.rstrip('/')}/canhazgpu.backup", REFUSED
        )
    if os.path.exists(file) and not os.path.isfile(file):  # noqa: PTH110, PTH113 - the same
        fail(f"{name} is not a regular file, and would be replaced: name another file", REFUSED)


def _not_written(path: Path, error: OSError) -> str:
    """Return why the backup was not written, and what to do."""
    name, folder = printable(str(path), 300), printable(str(path.parent), 300)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        reason = f"no space is left in {folder}: free some space there, or name a file on another disk"
    elif error.errno in (errno.ENOENT, errno.ENOTDIR):
        reason = f"there is no directory {folder}: create it, or name another file"
    else:
        reason = f"{folder} cannot be written to ({error.strerror or error}): name a file elsewhere"
    return f"{name} was not written: {reason}"


def restore(file: File, *, as_json: Json = False) -> None:
    """Replace this host's Redis data with a backup (root only).

    Stop the service first. When it starts again, it compares the data with its journal: it restores
    reservations made after the backup, and ends those that were released after it. Notices that were being
    delivered at the time of the backup may be sent again.
    """
    path = Path(file)

    async def work(store: "Store") -> dict[str, Any]:
        from canhazgpu.service.backup.archive import read_head, records  # noqa: PLC0415 - heavy
        from canhazgpu.service.backup.state_copy import Stage  # noqa: PLC0415

        head = read_head(path)
        if head.host != store.keys.host:
            remedy = f'if this is the same host, set host = "{printable(head.host)}" in the settings'
            fail(
                f"{file} is a backup of host {printable(head.host)}, not {store.keys.host}: {remedy}", REFUSED
            )
        for _ in records(path):
            pass  # Reading to the end verifies that the file is complete and unchanged.
        stage = Stage(store)
        await stage.clear()
        with Progress("restored") as progress:
            for record in records(path):
                await stage.put(record)
                progress.at(len(stage.names))
        await stage.commit()
        return {"file": file, "host": head.host, "at": head.at, "keys": len(stage.names)}

    done = on_state(work, alone=True, about=file)
    if as_json:
        print_json(done)
    else:
        start = "Start the service to apply the later changes from its journal."
        sys.stdout.write(f"Restored {done['keys']} keys as of {printable(done['at'])}. {start}\n")
