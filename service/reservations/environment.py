"""The environment variables that make a program use the GPUs of a reservation, and no others."""

from collections.abc import Mapping, Sequence

from canhazgpu.config.settings import Settings
from canhazgpu.events.gpu import GpuUsage
from canhazgpu.events.reservations import SCHEDULERS, Record
from canhazgpu.service.reservations.holder_token import HolderTokens


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
    chosen = record.gpus if gpus is None else gpus
    seen = {str(index): usage.uuid for index, usage in known.items()}
    named = [(index, (cards or {}).get(str(index)) or seen.get(str(index), "")) for index in chosen]
    index_of = {uuid: index for index, uuid in seen.items()}
    uuids = [uuid for _, uuid in named if uuid]
    indices = [index_of.get(uuid, str(index)) for index, uuid in named]
    # CUDA counts only the GPUs that the user, or the job of a scheduler, can open.
    by_uuid = settings.run.device_ids == "uuid" or settings.enforcement.devices or record.kind in SCHEDULERS
    return {
        "CUDA_VISIBLE_DEVICES": ",".join(uuids if by_uuid else indices),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "NVIDIA_VISIBLE_DEVICES": ",".join(uuids),
        "CANHAZGPU_RESERVATION": record.id,
        **({"CANHAZGPU_TOKEN": tokens.issue(record, chosen)} if tokens else {}),
    }
