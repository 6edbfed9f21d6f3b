"""Whether the caller has reserved the GPUs that a program would see: `if not check(): ...`."""

from __future__ import annotations

import os

from canhazgpu.client.connection import Client
from canhazgpu.events.spelling.cuda_visible_devices import Card, visible
from canhazgpu.events.spelling.gpu_numbers import instance_index

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class Check:
    """The answer to `check`; it is true if all `gpus` are reserved by the caller.

    `gpus`: the indices of the GPUs that are visible, in CUDA's order, and then those of AMD in HIP's order.
    `missing`: those of them that the caller has not reserved. A GPU that the service does not manage is never
    missing. `certain` is false if CUDA's numbers may mean any GPU; `gpus` are then all of the host.
    `why` says why these are visible. `rows`: each GPU of the host and its holder, as in /v1/check.
    """

    def __init__(self, rows: list[dict[str, Any]], environment: Mapping[str, str]) -> None:
        """Apply the rules of CUDA and of ROCm to the environment of a program."""
        self.rows = rows
        cards = [row for row in rows if row.get("parent") is None]
        amd = [_card(row) for row in cards if row.get("vendor") == "amd"]
        shown = visible(environment, [_card(row) for row in cards if row.get("vendor") != "amd"])
        self.gpus, self.why, self.certain = list(shown.gpus), shown.why, shown.certain
        if amd:
            from canhazgpu.events.spelling.rocm_visible_devices import visible_amd  # noqa: PLC0415 - few need it

            gpus, why = visible_amd(environment, amd)
            self.why = f"{self.why}; {why}" if len(amd) < len(cards) else why
            self.gpus += gpus
        lacking = {row["gpu_id"] for row in rows if row["managed"] and not row["own"]}
        self.missing = [gpu for gpu in self.gpus if gpu in lacking]

    def __bool__(self) -> bool:
        """Return whether nothing is missing; this is also so if no GPU is visible."""
        return not self.missing

    def __repr__(self) -> str:
        """Return the GPUs, and those that are missing."""
        return f"Check(gpus={self.gpus}, missing={self.missing})"

    def left(self) -> int | None:
        """Return the seconds until the first reservation of a visible GPU expires, or None."""
        own = [row["reservation"]["expires_in_s"] for row in self.rows if self._is_usable(row)]
        return min((seconds for seconds in own if seconds is not None), default=None)

    def _is_usable(self, row: dict[str, Any]) -> bool:
        return bool(row["own"]) and row["gpu_id"] in self.gpus


def check(environment: Mapping[str, str] | None = None, *, client: Client | None = None) -> Check:
    """Return whether the caller has reserved the GPUs that a program with this environment sees.

    By default that is the environment of this process. The kernel tells the service who calls. Raises
    Unreachable and BadSettings.
    """
    rows = (client or Client()).get("/v1/check")
    return Check(rows, os.environ if environment is None else environment)


def _card(row: dict[str, Any]) -> Card:
    """Return a GPU. For an older service, an instance is its card."""
    instances = {
        name: instance_index(row["gpu_id"], one["number"]) if "number" in one else row["gpu_id"]
        for one in row["mig"]
        for name in (one["uuid"], f"MIG-{row['uuid']}/{one['gpu_instance']}/{one['compute_instance']}")
    }
    return Card(row["gpu_id"], row["uuid"], row["name"], instances, row.get("ordinal"))
