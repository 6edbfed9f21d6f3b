"""The driver under the daemon: a library in NVML's place, which says what a file holds."""

import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
CARDS, TOTAL_MB, IDLE_MB, USE_MB = 8, 81559, 3, 2000


def build(folder: Path) -> tuple[Path, Path]:
    """Compile the library in NVML's place, and the clock that can be set; return where they are."""
    nvml, clock = folder / "libnvidia-ml.so.1", folder / "clock.so"
    for source, target in (
        (ROOT / "tests" / "fake_nvml" / "nvml.c", nvml),
        (Path(__file__).parent / "clock.c", clock),
    ):
        subprocess.run(["gcc", "-Wall", "-shared", "-fPIC", "-O1", "-o", target, source, "-ldl"], check=True)
    folder.chmod(0o755)
    return nvml, clock


class Driver:
    """Eight cards: in what order they are listed, what is wrong with them, who is on them."""

    def __init__(self, file: Path) -> None:
        """Say that all are idle."""
        self.uuids = [f"GPU-fa000000-0000-0000-0000-{number:012d}" for number in range(CARDS)]
        self._file = file
        self._order: Sequence[str] = self.uuids
        self._trouble: dict[str, str] = {}
        self._uses: dict[int, str] = {}
        self._lock = threading.Lock()
        self._say()

    def place(self, pid: int, uuid: str) -> None:
        """Let a process be on a card."""
        with self._lock:
            self._uses[pid] = uuid
            self._say()

    def remove(self, pid: int) -> None:
        """Let a process be on no card."""
        with self._lock:
            self._uses.pop(pid, None)
            self._say()

    def fail(self, uuids: Sequence[str], line: str) -> None:
        """Let something be wrong with these cards, and with no other."""
        with self._lock:
            self._trouble = dict.fromkeys(uuids, line)
            self._say()

    def renumber(self) -> None:
        """List the cards in the opposite order."""
        with self._lock:
            self._order = list(reversed(self._order))
            self._say()

    def _say(self) -> None:
        lines = []
        for uuid in self._order:
            on = [pid for pid, card in self._uses.items() if card == uuid]
            lines.append(f"gpu {uuid} H100 {TOTAL_MB} {IDLE_MB + USE_MB * len(on)} 500")
            lines += [self._trouble[uuid]] if uuid in self._trouble else []
            lines += [f"proc c {pid} {USE_MB}" for pid in on]
        new = self._file.with_suffix(".new")
        new.write_text("\n".join([*lines, ""]))
        new.rename(self._file)
