"""What users hold on the other hosts of the fleet: read now and then, so that no request waits for it."""

import random
import time
from collections.abc import Callable, Mapping

import anyio
import structlog
from anyio.abc import TaskStatus

from canhazgpu.config.settings import Settings
from canhazgpu.events.sanitize import printable
from canhazgpu.service.api.allowance import Allowances
from canhazgpu.service.fleet.mirror_reader import FleetAway, MirrorReader, open_mirror

BY_HOST = 0.05  # Seconds; a host reads at most 20 others in a second, however many there are.
PATIENCE = 3  # After so many intervals without an answer, only this host's GPUs count.
SAY_AGAIN = 600.0
REASON = 400  # Characters.


class HeldElsewhere:
    """The GPUs of each user on other hosts, at most PATIENCE intervals old. What is older counts as none."""

    def __init__(self, settings: Settings, allowances: Allowances, changed: Callable[[], None]) -> None:
        """Tell `allowances` what users hold elsewhere; call `changed` when that is not as before."""
        self._endpoint, self._host = settings.fleet.endpoint(), settings.host
        self._ignored = {settings.host, *settings.limits.fleet.ignore_hosts}
        self._least = self._interval = settings.fleet.interval
        self._changed = changed
        self._held: dict[str, dict[str, int]] = {}  # By user and host.
        self._read_at = float("-inf")
        self._said: tuple[str, float] | None = None  # The last reason that was logged, and when.
        allowances.elsewhere = self.of

    def of(self, user: str) -> Mapping[str, int]:
        """Return how many GPUs a user holds on other hosts, by host."""
        if time.monotonic() - self._read_at > PATIENCE * self._interval:
            return {}
        return self._held.get(user, {})

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Read until cancelled."""
        task_status.started()
        while True:
            try:
                async with open_mirror(self._endpoint, self._host) as mirror:
                    while True:
                        await self._read(mirror)
                        await self._pause()
            except FleetAway as away:
                self._report(" ".join(str(away).split())[:REASON])
            await self._pause()

    async def _read(self, mirror: MirrorReader) -> None:
        began = time.monotonic()
        hosts = [host for host in await mirror.hosts() if host not in self._ignored]
        self._interval = max(self._least, BY_HOST * len(hosts))
        held: dict[str, dict[str, int]] = {}
        for host, one in (await mirror.held(hosts)).items():
            for user, count in one.gpus.items():
                if count:
                    held.setdefault(user, {})[printable(host, 60)] = count
        before, self._held, self._read_at = self._held, held, began
        if self._said:
            structlog.get_logger().info("fleet_limit_back")
            self._said = None
        if held != before:
            self._changed()

    async def _pause(self) -> None:
        """Wait for about an interval: hosts that start together do not read together for ever."""
        await anyio.sleep(self._interval * random.uniform(0.8, 1.0))  # noqa: S311 - not cryptography

    def _report(self, reason: str) -> None:
        now = time.monotonic()
        if self._said is None or self._said[0] != reason or now - self._said[1] >= SAY_AGAIN:
            structlog.get_logger().warning("fleet_limit_alone", reason=reason)
            self._said = reason, now
