"""The lab's clock: every script of the product reads it instead of Redis' own, and so does the scanner."""

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from time import CLOCK_BOOTTIME
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from canhazgpu.events.redis_client.scripts import Script
from canhazgpu.events.redis_client.store import UNREACHABLE, Store, StoreDown, unreachable

PATIENCE = 120.0  # Seconds for an answer of Redis.
READ = "redis.call('TIME')"
BEGIN_MS = 1_700_000_000_000
BOOT_MS = BEGIN_MS - 10_000

Change = Callable[[str, str], str]  # From the name and the text of a script to the text that is to run.


@cache
def timed(package: str, name: str) -> str:
    """Return a script's text that takes its last argument for the time."""
    text = Script(package, name).text
    if text.count(READ) > 1:
        raise ValueError(f"{name}.lua reads the clock more than once")
    instead = "{string.match(table.remove(ARGV), '(%d+) (%d+)')}"
    return text.replace(READ, instead)


class Clock:
    """How late it is in the lab. It has what the scanner and the reader of /proc use of the module `time`."""

    CLOCK_BOOTTIME = CLOCK_BOOTTIME

    def __init__(self) -> None:
        """Begin on some day."""
        self.now_ms = BEGIN_MS

    def monotonic(self) -> float:
        """Return the seconds since some moment."""
        return (self.now_ms - BEGIN_MS) / 1000

    def clock_gettime(self, clock: int) -> float:
        """Return the seconds since the lab was booted."""
        del clock
        return (self.now_ms - BOOT_MS) / 1000

    def time(self) -> float:
        """Return the seconds since 1970."""
        return self.now_ms / 1000

    @property
    def ticks(self) -> int:
        """The clock ticks since the lab was booted."""
        return (self.now_ms - BOOT_MS) // 10

    @staticmethod
    def at(seconds: float) -> int:
        """Return the moment that is `seconds` on the scale of `monotonic`, in milliseconds."""
        return BEGIN_MS + round(seconds * 1000)


class LabStore(Store):
    """A store whose scripts run on the lab's clock. `change` may alter their text, to break the product."""

    def __init__(self, url: str, host: str, clock: Clock, change: Change | None = None) -> None:
        """Take the time from `clock`."""
        super().__init__(url, host)
        self._clock = clock
        self._change = change
        self._texts: dict[str, tuple[str, str]] = {}

    async def now_ms(self) -> int:
        """Return how late it is."""
        return self._clock.now_ms

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        """Run `script` on the lab's clock."""
        text, sha = self._texts.get(script.name) or self._text(script)
        now = f"{self._clock.now_ms // 1000} {self._clock.now_ms % 1000 * 1000}"
        try:
            try:
                return await self.redis.evalsha(sha, len(keys), *keys, *args, now)
            except NoScriptError:
                return await self.redis.eval(text, len(keys), *keys, *args, now)
        except UNREACHABLE as error:
            raise StoreDown(unreachable(error)) from error

    def _client(self, timeout: float, connections: int, key: str | None = None) -> Redis:
        """Return a client that waits for an answer as long as it takes: the lab's time stands still."""
        del timeout
        return super()._client(PATIENCE, connections, key)

    def _text(self, script: Script) -> tuple[str, str]:
        text = timed(script.package, script.name)
        if self._change:
            text = self._change(script.name, text)
        found = text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        self._texts[script.name] = found
        return found
