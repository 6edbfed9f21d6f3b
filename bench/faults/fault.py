"""What a fault is: how it strikes, what it lets nobody promise, how it is lifted."""

from collections.abc import Mapping
from typing import ClassVar

from bench.faults.cell import Cell


class Fault:
    """It strikes a running service once. `promise` is what users can rely on beyond what always holds."""

    name: ClassVar[str]
    promise: ClassVar[str]
    excuses: ClassVar[Mapping[str, str]] = {}  # What is not promised, by the oracle's kinds, and why.
    patience: ClassVar[float] = 60.0  # Seconds until all is well once it is lifted.
    disk: ClassVar[str] = ""  # What kind of disk it needs for the state directory.
    split: ClassVar[bool] = False  # Whether the workers are a process of their own.

    def environment(self, cell_folder: str, parts: Mapping[str, str]) -> dict[str, str]:
        """Return what the processes of the host need in their environment."""
        del self, cell_folder, parts
        return {}

    def prepare(self, cell: Cell) -> None:
        """Do what must be done before the state is reached."""

    def strike(self, cell: Cell) -> None:
        """Let it happen."""
        raise NotImplementedError

    def hold(self, cell: Cell) -> None:
        """Let it last, and look at what is said meanwhile."""

    def lift(self, cell: Cell) -> None:
        """Do what the administrator does."""
