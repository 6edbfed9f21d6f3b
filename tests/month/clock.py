"""A Redis with a simulated clock: every script and the store read the time from a key."""

import hashlib
from collections.abc import Sequence
from functools import cache
from typing import Any

from redis.exceptions import NoScriptError

from canhazgpu.events.redis_client.scripts import Script
from canhazgpu.events.redis_client.store import UNREACHABLE, Store, StoreDown, unreachable

CLOCK = "month:clock"
READ = "redis.call('TIME')"
INSTEAD = f"{{string.match(redis.call('GET', '{CLOCK}'), '(%d+) (%d+)')}}"


@cache
def timed(package: str, name: str) -> tuple[str, str]:
    """Return a script that reads the simulated clock instead of the real one, and its hash."""
    text = Script(package, name).text
    assert text.count(READ) <= 1
    changed = text.replace(READ, INSTEAD)
    return changed, hashlib.sha1(changed.encode(), usedforsecurity=False).hexdigest()


class TimedStore(Store):
    """A store whose scripts use the time of `set_clock`."""

    clock_ms = 0

    async def set_clock(self, ms: int) -> None:
        """Set the time for the following scripts."""
        type(self).clock_ms = ms
        await self.ask(self.redis.set(CLOCK, f"{ms // 1000} {ms % 1000 * 1000}"))

    async def now_ms(self) -> int:
        """Return the simulated time."""
        return self.clock_ms

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        """Run `script` with the simulated time."""
        text, sha = timed(script.package, script.name)
        try:
            try:
                return await self.redis.evalsha(sha, len(keys), *keys, *args)
            except NoScriptError:
                return await self.redis.eval(text, len(keys), *keys, *args)
        except UNREACHABLE as error:
            raise StoreDown(unreachable(error)) from error
