"""Which drivers this host has, for `gpus.provider = "auto"`. It looks at files, and imports nothing."""

from importlib.util import find_spec
from pathlib import Path

KFD = Path("/sys/class/kfd/kfd/topology/nodes")
NVIDIA = (Path("/proc/driver/nvidia/version"), Path("/dev/nvidiactl"), Path("/dev/dxg"))


def detected_provider(nodes: Path = KFD, nvidia: tuple[Path, ...] = NVIDIA) -> str:
    """Return `nvml`, `amdsmi` or `nvml+amdsmi`.

    The processor of many hosts with NVIDIA GPUs has a small GPU by AMD. On these, AMD's GPUs are read only if
    the package amdsmi is installed.
    """
    if not _has_amd(nodes):
        return "nvml"
    if not any(path.exists() for path in nvidia):
        return "amdsmi"
    return "nvml+amdsmi" if find_spec("amdsmi") else "nvml"


def _has_amd(nodes: Path) -> bool:
    """Return whether the driver for compute on AMD GPUs knows one; its other nodes are processors."""
    try:
        return any(int((node / "gpu_id").read_text(encoding="ascii")) for node in nodes.iterdir())
    except (OSError, ValueError):
        return False
