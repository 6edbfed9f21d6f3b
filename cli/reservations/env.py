"""`canhazgpu env`: shell code for GPUs that the caller holds already."""

from __future__ import annotations

import sys

from canhazgpu.cli import arguments, shells
from canhazgpu.cli.exit_codes import REFUSED, USAGE
from canhazgpu.cli.output import client, examples, fail, print_json
from canhazgpu.cli.syntax.gpu_list import ALL, is_start
from canhazgpu.client.reservations import together
from canhazgpu.events.spelling.gpu_numbers import card_of, spell_gpu

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import Annotated, Any

    import typer

EPILOG = examples(
    'code=$(canhazgpu env) && eval "$code"  # bash, zsh',
    "set code (canhazgpu env); and eval $code  # fish",
    'set code = `canhazgpu env` && eval "$code"  # csh',
    "canhazgpu env 1 --shell bash >> job.env",
)


def env(
    gpus: arguments.GpuWords = None,
    *,
    gpu_ids: arguments.GpuIds = None,
    shell: arguments.Shell = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print your reservations as JSON.")] = False,
) -> None:
    """Print shell code for the GPUs that you hold.

    This is the code that `reserve` prints. Without GPUs, it covers all your manual reservations.
    """
    named = arguments.chosen_gpus(gpus, gpu_ids)
    held: list[dict[str, Any]] = client().get("/v1/reservations/own")
    mine = {gpu: uuid for one in held for gpu, uuid in _uuids(one)}
    wanted = named if named is None or named == ALL else [_index(one, mine) for one in named]
    chosen = [one for one in held if _is_meant(one["reservation"], wanted)]
    if as_json:
        print_json([{**one["reservation"], "environment": one["environment"]} for one in chosen])
        return
    if not chosen:
        fail("you hold no manual reservation: make one with `canhazgpu reserve`", REFUSED)
    shells.print_beside_code("\n".join(_sentence(one["reservation"]) for one in chosen))
    several = len(chosen) > 1
    variables = together([one["environment"] for one in chosen]) if several else chosen[0]["environment"]
    sys.stdout.write(shells.code(variables, shell, ("CANHAZGPU_RESERVATION",) if several else ()))


def _uuids(held: dict[str, Any]) -> Iterator[tuple[int, str]]:
    names = ("NVIDIA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
    listed = [held["environment"].get(name, "").split(",") for name in names]
    uuids = [uuid for one in listed for uuid in one if uuid]
    gpus = held["reservation"]["gpus"]
    divided = set(map(card_of, gpus))
    yield from ((index, "") for index in gpus if index in divided)  # They are used by their instances.
    gpus = [index for index in gpus if index not in divided]
    yield from zip(gpus, uuids if len(uuids) == len(gpus) else [""] * len(gpus), strict=True)


def _index(name: int | str, mine: dict[int, str]) -> int:
    """Return the index of a GPU that the user holds; exit if it is another's."""
    found = [index for index, uuid in mine.items() if name == index or is_start(name, uuid)]
    if len(found) > 1:
        fail(f"you hold {len(found)} GPUs whose UUIDs begin with {name}: give more characters", USAGE)
    return (
        found[0]
        if found
        else fail(f"you do not hold GPU {_spelled(name)}: `canhazgpu status` shows who does", REFUSED)
    )


def _spelled(name: int | str) -> str:
    return name if isinstance(name, str) else spell_gpu(name)


def _is_meant(reservation: dict[str, Any], wanted: Collection[int] | str | None) -> bool:
    if wanted is None:
        return bool(reservation["kind"] == "manual")
    return isinstance(wanted, str) or not set(wanted).isdisjoint(reservation["gpus"])


def _sentence(reservation: dict[str, Any]) -> str:
    text = f"You hold {arguments.format_gpus(reservation['gpus'])}"
    if reservation["expires_in_s"] is None:
        return text
    return f"{text} for {arguments.remaining_time(reservation)}"
