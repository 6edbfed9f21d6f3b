"""The lab's /proc: a folder of the files that the kernel has for each process, on a file system in memory."""

import os
import shutil
from pathlib import Path

HOST_IDS = "         0          0 4294967295\n"
NOBODY = 2**32 - 1
IS_ROOT = os.geteuid() == 0


class ProcTree:
    """Writes processes as /proc has them; whoever reads it cannot tell."""

    def __init__(self, folder: Path) -> None:
        """Begin without a process."""
        self.folder = folder
        (folder / "self").mkdir(parents=True)
        (folder / "self/uid_map").write_text(HOST_IDS)

    def write(  # noqa: PLR0913 - each is a file, or a line of one
        self,
        pid: int,
        *,
        name: str,
        start: int,
        parent: int,
        uid: int,
        login: int | None,
        cgroup: str,
        id_map: str,
        environment: str,
        program: str,
    ) -> None:
        """Put a process there, or what it has become."""
        folder = f"{self.folder}/{pid}"
        if not os.path.isdir(folder):  # noqa: PTH112 - thousands of times a second
            os.mkdir(folder)  # noqa: PTH102
            os.symlink(program, f"{folder}/exe")  # noqa: PTH211
        if IS_ROOT:
            os.chown(folder, uid, uid)
        fields = ["S", parent, pid, pid, 0, -1, 4194304, *[0] * 12, start, *[0] * 30]
        pids = str(pid) if id_map == HOST_IDS else f"{pid}\t1"
        files = {
            "stat": f"{pid} ({name}) {' '.join(map(str, fields))}\n",
            "status": f"Name:\t{name}\nPid:\t{pid}\nPPid:\t{parent}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n"
            f"NSpid:\t{pids}\n",
            "cgroup": f"0::{cgroup}\n",
            "loginuid": str(NOBODY if login is None else login),
            "uid_map": id_map,
            "environ": f"HOME=/\0{environment}",
        }
        for file, text in files.items():
            with open(f"{folder}/{file}", "w") as opened:  # noqa: PTH123
                opened.write(text)

    def remove(self, pid: int) -> None:
        """Let a process be gone."""
        shutil.rmtree(f"{self.folder}/{pid}")
