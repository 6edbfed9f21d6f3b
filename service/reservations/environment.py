"""The environment variables that make a program use the GPUs of a reservation, and no others."""

from collections.abc import Mapping, Sequence

from canhazgpu.config.settings import Settings
from canhazgpu.events.gpu import GpuUsage
from canhazgpu.events.reservations import Record


def environment(
    settings: Settings, record: Record, known: Mapping[int, GpuUsage], gpus: Sequence[int] | None = None
) -> dict[str, str]:
    """Return the variables for all GPUs of a reservation, or for those of them in `gpus`."""
    chosen = record.gpus if gpus is None else gpus
    uuids = [known[index].uuid for index in chosen if index in known]
    by_uuid = settings.run.device_ids == "uuid"
    return {
        "CUDA_VISIBLE_DEVICES": ",".join(uuids if by_uuid else map(str, chosen)),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "NVIDIA_VISIBLE_DEVICES": ",".join(uuids),
        "CANHAZGPU_RESERVATION": record.id,
    }
