"""The AMD provider: as the one of NVML, with a helper process that calls AMD SMI."""

import sys
from pathlib import Path

from canhazgpu.events.gpu import AMD, Vendor
from canhazgpu.service.providers import amd_errors
from canhazgpu.service.providers.nvml import PATIENCE, NvmlProvider
from canhazgpu.service.providers.nvml_process import Helper

COMMAND = [sys.executable, "-m", "canhazgpu.service.providers.amd_helper"]
NODES = Path("/sys/class/kfd/kfd/topology/nodes")  # It has an entry for each processor that the driver knows.


class AmdProvider(NvmlProvider):
    """Gets one reading per scan from the helper, with the same deadline, isolation and renewal."""

    name = "amdsmi"
    _vendor: Vendor = AMD
    _errors = amd_errors

    def __init__(
        self,
        namespace: Path = Path("/proc/self/ns/pid"),
        *,
        patience: float = PATIENCE,
        devices: Path = NODES,
    ) -> None:
        """Store the parameters; the helper is started at the first scan."""
        super().__init__(namespace, patience=patience, devices=devices)

    def _new_helper(self) -> Helper:
        return Helper(COMMAND)
