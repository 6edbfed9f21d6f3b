"""Classifies the status codes of AMD SMI: the host, one GPU, or one value cannot be read.

Names and sentences are those of AMD SMI (amdsmi.h, amdsmi_exception.py). Standard library only.
"""

_NAMES = {
    1: ("INVAL", "Invalid parameters"),
    2: ("NOT_SUPPORTED", "Feature not supported"),
    3: ("NOT_YET_IMPLEMENTED", "Feature not yet implemented"),
    4: ("FAIL_LOAD_MODULE", "Fail to load lib"),
    5: ("FAIL_LOAD_SYMBOL", "Fail to load symbol"),
    6: ("DRM_ERROR", "Error when called libdrm"),
    7: ("API_FAILED", "API call failed"),
    8: ("TIMEOUT", "Timeout in API call"),
    9: ("RETRY", "Retry operation"),
    10: ("NO_PERM", "Permission Denied"),
    11: ("INTERRUPT", "Interrupt occurred during execution"),
    12: ("IO", "I/O Error"),
    13: ("ADDRESS_FAULT", "Bad address"),
    14: ("FILE_ERROR", "Error opening file"),
    15: ("OUT_OF_RESOURCES", "Not enough memory"),
    16: ("INTERNAL_EXCEPTION", "Internal error"),
    18: ("INIT_ERROR", "Initialization error"),
    30: ("BUSY", "Device busy"),
    31: ("NOT_FOUND", "Device Not found"),
    32: ("NOT_INIT", "Device not initialized"),
    34: ("DRIVER_NOT_LOADED", "Driver not loaded"),
    40: ("NO_DATA", "No data was found for given input"),
    41: ("INSUFFICIENT_SIZE", "Insufficient size for operation"),
    42: ("UNEXPECTED_SIZE", "unexpected size of data was read"),
    43: ("UNEXPECTED_DATA", "The data read or provided was unexpected"),
    52: ("FILE_NOT_FOUND", "File or directory not found"),
    54: ("AMDGPU_RESTART_ERR", "AMDGPU restart failed"),
    0xFFFFFFFE: ("MAP_ERROR", "The internal library error did not map to a status code"),
    0xFFFFFFFF: ("UNKNOWN_ERROR", "An unknown error occurred"),
}
BY_CODE = {code: name for code, (name, _) in _NAMES.items()}
CODES = {name: code for code, name in BY_CODE.items()}
SENTENCES = dict(_NAMES.values())

# The driver fails, not one GPU: nothing on the host can be read.
HOST = frozenset({"NOT_INIT", "DRIVER_NOT_LOADED", "FAIL_LOAD_MODULE", "FAIL_LOAD_SYMBOL", "INIT_ERROR"})
# This GPU is broken or gone.
BROKEN = frozenset({"NOT_FOUND", "IO", "ADDRESS_FAULT", "DRM_ERROR", "AMDGPU_RESTART_ERR", "UNKNOWN_ERROR"})
REMEDIES = {
    "DRIVER_NOT_LOADED": "load the driver: `modprobe amdgpu`, or install it",
    "INIT_ERROR": "load the driver: `modprobe amdgpu`, or install it",
    "NO_PERM": "run the service as root, or add its user to the groups render and video",
    "FILE_ERROR": "let the service read /sys/class/kfd and /sys/class/drm: its unit or container forbids it",
    "NOT_FOUND": "look for amdgpu in `dmesg`; reset it while the service is stopped, or reboot",
    "AMDGPU_RESTART_ERR": "look for amdgpu in `dmesg`, then reboot",
}
REMEDY = "look at `dmesg` and `amd-smi`"
STARTING = "wait"
HANGING = f"{REMEDY}; if they hang too, the host needs a restart"


def sentence(name: str) -> str:
    """Return AMD SMI's own text for an error."""
    return SENTENCES.get(name, name)


def remedy(name: str) -> str:
    """Return the remedy for an error."""
    return REMEDIES.get(name, REMEDY)


def import_error(text: str) -> tuple[str, str]:
    """Return the reason and the remedy if the Python package cannot be imported."""
    if "No module named" in text:
        return "the Python package amdsmi is not installed", "install `canhazgpu[amd]`"
    if "undefined symbol" in text:
        reason = "the Python package amdsmi is newer than the library libamd_smi.so"
        return reason, "install the release of amdsmi that belongs to the installed ROCm"
    if "libamd_smi.so" in text:
        return "libamd_smi.so is not found", "install the package amd-smi-lib of ROCm"
    return f"amdsmi cannot be used: {text}", "install amdsmi again, in the release of the installed ROCm"
