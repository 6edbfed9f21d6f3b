"""`canhazgpu env`: shell code for GPUs that the caller holds already."""

import sys
from typing import Annotated, Any

import typer

from canhazgpu.cli import arguments, shells
from canhazgpu.cli.exit_codes import REFUSED
from canhazgpu.cli.output import client, examples, fail, print_json

EPILOG = examples(
    'code=$(canhazgpu env) && eval "$code"  # bash, zsh',
    "set code (canhazgpu env); and eval $code  # fish",
    'set code = `canhazgpu env` && eval "$code"  # csh',
    "canhazgpu env --gpu-ids 1 --shell bash >> job.env",
)


def env(
    *,
    gpu_ids: arguments.GpuIds = None,
    shell: shells.Shell = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print your reservations as JSON.")] = False,
) -> None:
    """Print shell code for the GPUs that you hold.

    This is the code that `reserve` prints. Without --gpu-ids, it covers all your manual reservations.
    """
    wanted = None if gpu_ids is None else arguments.indices(gpu_ids, "--gpu-ids")
    held: list[dict[str, Any]] = client().get("/v1/reservations/own")
    if wanted is not None:
        mine = {gpu for one in held for gpu in one["reservation"]["gpus"]}
        if missing := [gpu for gpu in wanted if gpu not in mine]:
            fail(
                f"you do not hold GPU {', '.join(map(str, missing))}: `canhazgpu status` shows who does",
                REFUSED,
            )
    chosen = [one for one in held if _is_meant(one["reservation"], wanted)]
    if as_json:
        print_json([{**one["reservation"], "environment": one["environment"]} for one in chosen])
        return
    if not chosen:
        fail("you hold no manual reservation: make one with `canhazgpu reserve`", REFUSED)
    shells.say("\n".join(_sentence(one["reservation"]) for one in chosen))
    several = len(chosen) > 1
    variables = _together([one["environment"] for one in chosen]) if several else chosen[0]["environment"]
    sys.stdout.write(shells.code(variables, shell, ("CANHAZGPU_RESERVATION",) if several else ()))


def _is_meant(reservation: dict[str, Any], wanted: list[int] | None) -> bool:
    if wanted is None:
        return bool(reservation["kind"] == "manual")
    return not set(wanted).isdisjoint(reservation["gpus"])


def _together(environments: list[dict[str, str]]) -> dict[str, str]:
    """Return the variables for the GPUs of several reservations, which have no common id."""
    devices = ",".join(one["CUDA_VISIBLE_DEVICES"] for one in environments)
    return {
        "CUDA_VISIBLE_DEVICES": devices,
        "CUDA_DEVICE_ORDER": environments[0]["CUDA_DEVICE_ORDER"],
    }


def _sentence(reservation: dict[str, Any]) -> str:
    text = f"You hold {arguments.format_gpus(reservation['gpus'])}"
    if reservation["expires_in_s"] is None:
        return text
    return f"{text} for {arguments.remaining_time(reservation)}"
