"""Classifies NVML's return codes: the host, one GPU, or one value cannot be read.

Names and sentences are those of NVML (nvml.h, nvmlErrorString). Standard library only, because the helper
process imports it.
"""

SENTENCES = {
    "UNINITIALIZED": "Uninitialized",
    "INVALID_ARGUMENT": "Invalid Argument",
    "NOT_SUPPORTED": "Not Supported",
    "NO_PERMISSION": "Insufficient Permissions",
    "ALREADY_INITIALIZED": "Already Initialized",
    "NOT_FOUND": "Not Found",
    "INSUFFICIENT_SIZE": "Insufficient Size",
    "INSUFFICIENT_POWER": "Insufficient External Power",
    "DRIVER_NOT_LOADED": "Driver Not Loaded",
    "TIMEOUT": "Timeout",
    "IRQ_ISSUE": "Interrupt Request Issue",
    "LIBRARY_NOT_FOUND": "NVML Shared Library Not Found",
    "FUNCTION_NOT_FOUND": "Function Not Found",
    "CORRUPTED_INFOROM": "Corrupted infoROM",
    "GPU_IS_LOST": "GPU is lost",
    "RESET_REQUIRED": "GPU requires reset",
    "OPERATING_SYSTEM": "The operating system has blocked the request",
    "LIB_RM_VERSION_MISMATCH": "Driver/library version mismatch",
    "IN_USE": "In use by another client",
    "MEMORY": "Insufficient Memory",
    "NO_DATA": "No data",
    "UNKNOWN": "Unknown Error",
}
CODES = {name: code for code, name in enumerate(SENTENCES, start=1)} | {"UNKNOWN": 999}
BY_CODE = {code: name for name, code in CODES.items()}

# The driver fails, not one GPU: nothing on the host can be read.
HOST = frozenset(
    {
        "UNINITIALIZED",
        "DRIVER_NOT_LOADED",
        "LIBRARY_NOT_FOUND",
        "LIB_RM_VERSION_MISMATCH",
        "FUNCTION_NOT_FOUND",
    }
)
# This GPU is broken or gone.
BROKEN = frozenset(
    {"GPU_IS_LOST", "RESET_REQUIRED", "IRQ_ISSUE", "CORRUPTED_INFOROM", "INSUFFICIENT_POWER", "UNKNOWN"}
)
REMEDIES = {
    "DRIVER_NOT_LOADED": "load the driver: `modprobe nvidia`, or install it",
    "LIBRARY_NOT_FOUND": "install the NVIDIA driver, or set gpus.provider to simulated",
    "LIB_RM_VERSION_MISMATCH": "reboot, or reload the nvidia modules: the driver was upgraded",
    "FUNCTION_NOT_FOUND": "install driver version 510 or later",
    "NO_PERMISSION": "run the service as root, or give it access to /dev/nvidia*",
    "OPERATING_SYSTEM": "let the service open /dev/nvidia*: its unit, cgroup or container forbids it",
    "INSUFFICIENT_POWER": "connect the power cables of the GPU",
    "GPU_IS_LOST": "look for Xid in `dmesg`; reset it while the service is stopped, or reboot",
    "RESET_REQUIRED": "reset it with nvidia-smi while the service is stopped, or reboot",
}
REMEDY = "look at `dmesg` and `nvidia-smi`"
STARTING = "wait; nvidia-persistenced or persistence mode makes it faster"
HANGING = f"{REMEDY}; if they hang too, the host needs a restart"


def sentence(name: str) -> str:
    """Return NVML's own text for an error."""
    return SENTENCES.get(name, name)


def remedy(name: str) -> str:
    """Return the remedy for an error."""
    return REMEDIES.get(name, REMEDY)


def import_error(text: str) -> tuple[str, str]:
    """Return the reason and the remedy if the Python package cannot be imported."""
    return f"pynvml cannot be used: {text}", "uninstall the package pynvml and install nvidia-ml-py again"
