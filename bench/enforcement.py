"""What enforcement costs: the change of one ACL after a grant, and the look at the files after each scan."""

import os
import shutil
import tempfile
import time
from pathlib import Path

from bench.allocate import spread
from canhazgpu.service.enforcement.access import XATTR, only_for
from canhazgpu.service.enforcement.device_files import DeviceFiles
from canhazgpu.service.enforcement.former_access import FormerAccess

GPUS = 8
ROUNDS = 1000
PAUSE = 0.003  # Seconds: the service sleeps before a request, and does not compute without a break.
LATEST = 0.005  # Seconds that a change may take.
NULL = os.makedev(1, 3)


def measure() -> list[str]:
    """Return lines about eight device files, of which one changes its holder at a time."""
    if os.geteuid() != 0:
        return ["needs root, which alone can make device files"]
    folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
    try:
        for minor in range(GPUS):
            os.mknod(folder / f"nvidia{minor}", 0o20666, NULL)
        return _measure(folder)
    finally:
        shutil.rmtree(folder)


def _measure(folder: Path) -> list[str]:
    files = DeviceFiles(folder, FormerAccess(folder))
    wanted = {minor: only_for((), ()) for minor in range(GPUS)}
    files.apply(wanted, {})
    bare, changes, looks = [], [], []
    for turn in range(ROUNDS):
        changed = only_for([1000 + turn], ())
        began = time.perf_counter()
        os.setxattr(folder / f"nvidia{turn % GPUS}", XATTR, changed.acl or b"")
        bare.append(time.perf_counter() - began)
        time.sleep(PAUSE)
        wanted[turn % GPUS] = only_for([100_000 + turn], ())
        began = time.perf_counter()
        files.apply(wanted, {})
        changes.append(time.perf_counter() - began)
        began = time.perf_counter()
        files.differ()
        looks.append(time.perf_counter() - began)
    late = sum(1 for one in changes if one > LATEST)
    return [
        f"one call of setxattr: {spread(bare)}",
        f"the change of the ACL of one of {GPUS} files: {spread(changes)}; {late} of {ROUNDS} over 5 ms",
        f"the look at {GPUS} files after a scan: {spread(looks)}",
    ]
