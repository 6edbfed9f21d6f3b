"""Whether CUDA has started in this process: from then on, CUDA_VISIBLE_DEVICES has no effect on it."""

from pathlib import Path

DESCRIPTORS = Path("/proc/self/fd")
CUDA_FILE = "/dev/nvidia-uvm"  # Every CUDA context opens it. NVML, which only reads, does not.


def has_cuda_started(descriptors: Path = DESCRIPTORS) -> bool:
    """Return whether this process has the file open that CUDA opens first; False if nobody can tell."""
    try:
        return any(_target(one) == CUDA_FILE for one in descriptors.iterdir())
    except OSError:
        return False


def _target(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except OSError:  # It was closed meanwhile.
        return ""
