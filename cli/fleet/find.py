"""`canhazgpu find`: the hosts of the fleet on which GPUs are free now, or will be free first."""

from __future__ import annotations

import sys
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from canhazgpu.cli.arguments import gpu_selection
from canhazgpu.cli.exit_codes import REFUSED
from canhazgpu.cli.options import AsJson, Mig, gpu_count, non_empty
from canhazgpu.cli.output import client, examples, fail, print_json
from canhazgpu.cli.status_lines import foreign
from canhazgpu.events.sanitize import LONGEST_WORDS, printable
from canhazgpu.events.spelling.gpu_counts import describe_request

EPILOG = examples(
    "canhazgpu find --gpus 4",
    "canhazgpu find --gpus 4 --model H100",
    "canhazgpu find --mig 1g.10gb:2",
    "canhazgpu find --json | jq -r 'map(select(.now)) | .[0].host'",
)


def find(
    *,
    gpus: Annotated[
        int | None,
        typer.Option(
            "--gpus",
            "-g",
            help="Number of GPUs on one host (default: 1).",
            metavar="NUMBER",
            parser=gpu_count,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", help="Part of the model name, such as H100.", metavar="MODEL", callback=non_empty
        ),
    ] = None,
    mig: Mig = None,
    as_json: AsJson = False,
) -> None:
    """Find the host of the fleet on which GPUs are free now, or will be free first.

    GPUs that are divided into MIG instances do not count; --mig finds instances.
    A start in the future assumes that no reservation ends early, and that the requests in the host's queue
    are served first.
    """
    wanted = gpu_selection(gpus, None, mig)
    count, profile = wanted["count"], wanted.get("profile")
    words = {"gpus": count, "model": model or "", **({} if profile is None else {"profile": profile})}
    rows = client().get("/v1/fleet/find?" + urlencode(words))
    if any(row.get("profile") != profile for row in rows):
        fail("the service is older than this command, and finds no MIG instances: restart it", REFUSED)
    if as_json:
        print_json(rows)
    elif rows:
        sys.stdout.write(_table(rows))
    else:
        what = describe_request({"gpus": None, **wanted})
        of = f" of the model {printable(model)}" if model else ""
        fail(f"no host of the fleet has {what}{of}", REFUSED)


def _table(rows: list[dict[str, Any]]) -> str:
    from canhazgpu.cli.display.tables import Column, lay_out  # noqa: PLC0415 - JSON does not need it
    from canhazgpu.cli.display.terminal import columns  # noqa: PLC0415

    shown = [
        Column("HOST", [foreign(row["host"]) for row in rows], least=8),
        Column("START", [_start(row) for row in rows], least=12),
        Column("FREE", [f"{row['free']} of {row['gpus']}" for row in rows]),
        Column("WAITING", [str(row["waiting"]) for row in rows], drop=2),
        Column("MODEL", [foreign(", ".join(row["models"]), LONGEST_WORDS) for row in rows], drop=1),
    ]
    return "".join(f"{line}\n" for line in lay_out(shown, columns(sys.stdout)))


def _start(row: dict[str, Any]) -> str:
    from canhazgpu.cli.local_times import MINUTES, local  # noqa: PLC0415 - slow to import

    if row["away"]:
        return f"away: {foreign(row['away'], LONGEST_WORDS)}"
    if row["now"]:
        return "now"
    return local(row["start"], MINUTES) if row["start"] else "unknown"
