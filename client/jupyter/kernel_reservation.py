"""The reservation of a kernel: its variables are set in this process, and it ends with the kernel."""

import json
import os
from typing import Any

from canhazgpu.client.connection import Client
from canhazgpu.client.jupyter.command import Failed, output_of
from canhazgpu.client.jupyter.kernel_end import KernelEnd
from canhazgpu.client.reservations import post, together
from canhazgpu.events.spelling.gpu_ranges import name_gpus

VARIABLES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")  # If one is empty, no GPU is visible.


class KernelReservation:
    """A manual reservation that is released when the kernel ends or at its expiry, whichever is first."""

    def __init__(self, granted: dict[str, Any], former: "KernelReservation | None" = None) -> None:
        """Set the variables of what `canhazgpu reserve --json` has printed. `former` has expired."""
        self.id: str = granted["id"]
        self.gpus: list[int] = granted["gpus"]
        self.lasts: int | None = granted["expires_in_s"]
        self.before: dict[str, str | None] = (
            former.before if former else {name: os.environ.get(name) for name in granted["environment"]}
        )
        self.end = "or until this kernel ends"
        self._waits: KernelEnd | None = None
        try:
            self._waits = KernelEnd(self.id)
        except OSError:
            self.end = "even if this kernel ends earlier: run `%canhazgpu release` at the end"
        os.environ.update(granted["environment"])

    def left(self) -> int | None:
        """Return the seconds until it expires, or None if it has ended."""
        live = {one["id"]: one for one in Client().get("/v1/reservations")}
        return int(live[self.id]["expires_in_s"] or 0) if self.id in live else None

    def release(self) -> None:
        """Release it. No GPU is visible afterwards, unless the kernel was started with some."""
        post(Client(), "/v1/reservations/release", {"ids": [self.id]})
        if self._waits:
            self._waits.close()
        for name, value in self.before.items():
            if value is not None:
                os.environ[name] = value
            elif name in VARIABLES:
                os.environ[name] = ""
            else:
                os.environ.pop(name, None)


def use() -> str:
    """Set the variables of the manual reservations that the user has; return a sentence. Raises Failed."""
    held = json.loads(output_of(["env", "--json"]))
    if not held:
        raise Failed("you hold no GPUs: reserve some with `%canhazgpu reserve`")
    os.environ.update(held[0]["environment"])
    if len(held) > 1:
        os.environ.update(together([one["environment"] for one in held]))
        os.environ.pop("CANHAZGPU_RESERVATION", None)
        os.environ.pop("NVIDIA_VISIBLE_DEVICES", None)
    gpus = [gpu for one in held for gpu in one["gpus"]]
    return f"This kernel uses {name_gpus(gpus)}, until you release them"
