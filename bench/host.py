"""A service on 8 simulated GPUs, for the time of a measurement."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

COMMAND = [sys.executable, "-m", "canhazgpu.cli.main"]
GPU = """\
[[gpus]]
index = {index}
name = "NVIDIA H100 80GB HBM3"
memory_total_mb = 81559
memory_used_mb = 45
"""
CONFIG = """\
host = "bench"
socket = "{folder}/s"
state_dir = "{folder}/state"
gpus.provider = "simulated"
gpus.scenario = "{folder}/gpus.toml"
gpus.scan_interval = "1s"
notify.log.path = "{folder}/violations.log"
notify.email.enabled = true
notify.email.admins = ["root@localhost"]
"""


@contextmanager
def service(gpus: int = 8) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """Run a service with every channel on; yield its folder and its process once it answers."""
    with tempfile.TemporaryDirectory(prefix="chg-bench-", dir="/tmp") as name:
        folder = Path(name)
        (folder / "gpus.toml").write_text("".join(GPU.format(index=index) for index in range(gpus)))
        (folder / "config.toml").write_text(CONFIG.format(folder=folder))
        command = [*COMMAND, "--config", str(folder / "config.toml")]
        process = subprocess.Popen([*command, "serve"], stderr=subprocess.DEVNULL)
        try:
            while subprocess.run([*command, "status"], capture_output=True, check=False).returncode:
                if process.poll() is not None:
                    raise RuntimeError("the service does not start")
                time.sleep(0.1)
            yield folder, process
        finally:
            process.terminate()
            process.wait(20)
