"""Counts the instructions of an idle service with callgrind, which do not depend on the machine."""

import re
import subprocess
import tempfile
import time
from pathlib import Path

from bench.host import prepare

SERVING, SECONDS = 120, 30


def per_second(provider: str, checkout: Path) -> float:
    """Return the millions of instructions in user mode per second of the service and its Redis.

    The helper of NVML is not counted: callgrind does not switch it on.
    """
    with tempfile.TemporaryDirectory(prefix="chg-bench-", dir="/tmp") as name:
        folder = Path(name)
        command, environment = prepare(folder, 8, provider, checkout)
        options = ["--trace-children=yes", "--instr-atstart=no", "--log-file=/dev/null"]
        tool = ["valgrind", "--tool=callgrind", *options, f"--callgrind-out-file={folder}/count.%p"]
        with (folder / "log").open("wb") as log:
            daemon = subprocess.Popen([*tool, *command, "serve"], stderr=log, env=environment)
        try:
            deadline = time.monotonic() + SERVING
            while b"serving" not in (folder / "log").read_bytes():
                if time.monotonic() > deadline:
                    raise SystemExit("the service does not start under valgrind")
                time.sleep(0.2)
            time.sleep(SECONDS / 2)
            subprocess.run(["callgrind_control", "-i", "on"], check=False, capture_output=True)
            began = time.monotonic()
            time.sleep(SECONDS)
            taken = time.monotonic() - began
            subprocess.run(["callgrind_control", "-i", "off"], check=False, capture_output=True)
        finally:
            daemon.terminate()
            daemon.wait(SERVING)
        counts = [
            re.search(r"^totals: (\d+)", one.read_text(), re.MULTILINE) for one in folder.glob("count.*")
        ]
        return sum(int(one[1]) for one in counts if one) / taken / 1e6
