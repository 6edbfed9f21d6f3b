"""What the product promises of time, and what it says of somebody."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Promise:
    """What the settings promise, in milliseconds; `slack` is how long a scan of the lab may take."""

    interval: int
    confirm: int
    idle: int
    slack: int = 100

    @property
    def bound(self) -> int:
        """How long use without right may stay untold."""
        return self.interval + self.confirm + self.slack


@dataclass
class Accusation:
    """An open violation as events tell of it."""

    uuid: str
    who: str
    wrong_ms: int | None = None  # Since when it is wrong.
    counted: bool = False
