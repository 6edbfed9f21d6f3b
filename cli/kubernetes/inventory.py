"""The list of GPUs that the kubelet watches, and a wake-up for each change. It never reads a GPU."""

from __future__ import annotations

from threading import Condition
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from canhazgpu.cli.kubernetes.devices import Device

Health = tuple[tuple[str, bool], ...]


class Inventory:
    """The GPUs and their health. Threads wait for changes; nothing is sent twice."""

    def __init__(self) -> None:
        """Begin with an unknown list."""
        self._changed = Condition()
        self._health: Health | None = None
        self._ended = False
        self.devices: tuple[Device, ...] = ()

    @property
    def is_known(self) -> bool:
        """Whether the GPUs have been read."""
        return self._health is not None

    def put(self, devices: tuple[Device, ...]) -> None:
        """Store the newest list."""
        with self._changed:
            self.devices = devices
            self._health = tuple((device.uuid, device.healthy) for device in devices)
            self._changed.notify_all()

    def end(self) -> None:
        """End all `watch`."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def watch(self, stopped: Ended) -> Iterator[Health]:
        """Yield the health of the GPUs now and after each change, until it or the inventory ends."""
        sent: Health | None = None
        while True:
            with self._changed:
                while not (self._ended or stopped.value) and self._health in (None, sent):
                    self._changed.wait()
                if self._ended or stopped.value or self._health is None:
                    return
                sent = self._health
            yield sent

    def wake(self, stopped: Ended) -> None:
        """End one `watch`."""
        with self._changed:
            stopped.value = True
            self._changed.notify_all()


class Ended:
    """Whether a reader is gone."""

    value = False
