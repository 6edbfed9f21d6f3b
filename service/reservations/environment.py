"""The environment variables that make a program use the GPUs of a reservation, and no others."""

import re
from collections.abc import Mapping, Sequence

from canhazgpu.config.settings import Settings
from canhazgpu.events.gpu import AMD, GpuUsage
from canhazgpu.events.reservations import SCHEDULERS, Record
from canhazgpu.events.spelling.gpu_numbers import is_instance, usable_parts
from canhazgpu.service.reservations.holder_token import HolderTokens

ROCR_UUID = re.compile(r"GPU-[0-9a-f]{16}")  # Other names, such as PCI addresses, mean nothing to ROCm.


def environment(  # noqa: PLR0913 - the reservation, and what is known of its GPUs
    settings: Settings,
    record: Record,
    known: Mapping[int, GpuUsage],
    gpus: Sequence[int] | None = None,
    cards: Mapping[str, str] | None = None,
    *,
    tokens: HolderTokens | None = None,
) -> dict[str, str]:
    """Return the variables for all GPUs of a reservation, or for those of them in `gpus`.

    `cards`: the UUID of the GPU at each index of the record, if it may differ from the last scan, `known`.
    With `tokens`, they can be passed on to a container, which proves whose it is.
    """
    chosen = usable_parts(record.gpus if gpus is None else gpus)
    seen = {str(index): usage.uuid for index, usage in known.items()}
    named = [(index, (cards or {}).get(str(index)) or seen.get(str(index), "")) for index in chosen]
    by_uuid = {usage.uuid: usage for usage in known.values()}
    amd = [by_uuid[uuid] for _, uuid in named if uuid in by_uuid and by_uuid[uuid].vendor == AMD]
    others = [(index, uuid) for index, uuid in named if not any(uuid == gpu.uuid for gpu in amd)]
    uuids = [uuid for _, uuid in others if uuid]
    indices = [str(by_uuid[uuid].index if uuid in by_uuid else index) for index, uuid in others]
    # CUDA counts only the GPUs that the user, or the job of a scheduler, can open.
    uuids_for_cuda = (
        any(map(is_instance, chosen))  # CUDA has no numbers for MIG instances.
        or settings.run.device_ids == "uuid"
        or settings.enforcement.devices
        or record.kind in SCHEDULERS
    )
    vendors = {usage.vendor for usage in known.values()}
    return {
        "CUDA_VISIBLE_DEVICES": ",".join(uuids if uuids_for_cuda else indices),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "NVIDIA_VISIBLE_DEVICES": ",".join(uuids),
        **(_rocm(amd, alone=vendors == {AMD}) if AMD in vendors else {}),
        "CANHAZGPU_RESERVATION": record.id,
        **({"CANHAZGPU_TOKEN": tokens.issue(record, chosen)} if tokens else {}),
    }


def _rocm(gpus: Sequence[GpuUsage], *, alone: bool) -> dict[str, str]:
    """Return the variables for AMD GPUs, of which there may be none.

    The runtime below all others shows only the GPUs in ROCR_VISIBLE_DEVICES, in this order. HIP counts what
    is left: 0, 1 and so on. That replaces a value from before, which would hide GPUs once more. `alone`: the
    host has no other vendor's GPUs. Frameworks that read only CUDA_VISIBLE_DEVICES then find HIP's numbers
    there; otherwise CUDA would take them for NVIDIA's GPUs.
    """
    by_uuid = all(ROCR_UUID.fullmatch(gpu.uuid) for gpu in gpus)
    names = [gpu.uuid if by_uuid else str(gpu.index if gpu.ordinal is None else gpu.ordinal) for gpu in gpus]
    places = ",".join(str(place) for place in range(len(gpus)))
    cuda = {"CUDA_VISIBLE_DEVICES": places} if alone else {}
    return {"ROCR_VISIBLE_DEVICES": ",".join(names), "HIP_VISIBLE_DEVICES": places, **cuda}
