"""A service on 8 simulated GPUs, for the time of a measurement."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DRIVER = Path(__file__).parent.parent / "tests" / "fake_nvml" / "nvml.c"
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
gpus.provider = "{provider}"
gpus.scenario = "{folder}/gpus.toml"
gpus.scan_interval = "1s"
notify.log.path = "{folder}/violations.log"
notify.email.enabled = true
notify.email.admins = ["root@localhost"]
"""


def _driver(folder: Path, gpus: int) -> dict[str, str]:
    """Compile the tests' driver library into `folder`; return the environment that makes NVML use it."""
    target = folder / "libnvidia-ml.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", target, DRIVER], check=True)
    answers = folder / "driver.txt"
    answers.write_text("".join(f"gpu GPU-{index} H100 81559 45 500\n" for index in range(gpus)))
    return {"LD_LIBRARY_PATH": str(folder), "FAKE_NVML": str(answers)}


def prepare(
    folder: Path, gpus: int, provider: str, checkout: Path | None
) -> tuple[list[str], dict[str, str]]:
    """Write the settings of a service; return the command without its verb, and its environment."""
    (folder / "gpus.toml").write_text("".join(GPU.format(index=index) for index in range(gpus)))
    (folder / "config.toml").write_text(CONFIG.format(folder=folder, provider=provider))
    python = checkout / ".venv" / "bin" / "python" if checkout else sys.executable
    command = [str(python), "-m", "canhazgpu.cli.main", "--config", str(folder / "config.toml")]
    return command, os.environ | (_driver(folder, gpus) if provider == "nvml" else {})


@contextmanager
def service(
    gpus: int = 8, provider: str = "simulated", checkout: Path | None = None
) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """Run a service with every channel on; yield its folder and its process once it answers.

    With the provider `nvml` it reads a driver library that answers from a file, as in the tests.
    `checkout`: another version, with its .venv.
    """
    with tempfile.TemporaryDirectory(prefix="chg-bench-", dir="/tmp") as name:
        folder = Path(name)
        command, environment = prepare(folder, gpus, provider, checkout)
        process = subprocess.Popen([*command, "serve"], stderr=subprocess.DEVNULL, env=environment)
        try:
            while subprocess.run([*command, "status"], capture_output=True, check=False).returncode:
                if process.poll() is not None:
                    raise RuntimeError("the service does not start")
                time.sleep(0.1)
            yield folder, process
        finally:
            process.terminate()
            process.wait(20)
