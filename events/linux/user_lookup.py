"""Look-ups in the user database, which may hang: each one has its own thread and a deadline."""

import contextlib
import pwd
import threading
import time
from collections.abc import Callable
from typing import ClassVar

import anyio.to_thread

PATIENCE = 2.0  # Seconds, and while one hangs that was waited for so long
LEAST = 0.1  # for others: enough for the host's own files.


class LookUp:
    """A look-up in progress. Its thread does not prevent the process from exiting."""

    _hanging: ClassVar[dict[object, float]] = {}  # Those that have not ended, and when they began.

    def __init__(self, work: Callable[[dict[str, int]], None]) -> None:
        """Start the look-up; `work` adds every name and uid that it finds to its argument."""
        self._found: dict[str, int] = {}
        self._done = threading.Event()
        self._work = work
        self._hanging[self] = time.monotonic()
        threading.Thread(target=self._run, name="look-up", daemon=True).start()

    @property
    def ended(self) -> bool:
        """Whether the look-up has finished."""
        return self._done.is_set()

    async def found(self, patience: float | None = None) -> dict[str, int]:
        """Wait so many seconds, else as long as it is worth it; return what is known by then.

        A directory that hangs is waited for once, not for each user: there are other people to tell.
        """
        if not self.ended:
            wait = PATIENCE if patience is None else patience
            oldest = min(list(self._hanging.values()), default=0.0)
            wait = min(wait, max(LEAST, oldest + PATIENCE - time.monotonic()))
            await anyio.to_thread.run_sync(self._done.wait, wait, abandon_on_cancel=True)
        return dict(self._found)

    def _run(self) -> None:
        try:
            with contextlib.suppress(KeyError, OSError, ValueError):
                self._work(self._found)
        finally:
            self._hanging.pop(self, None)
            self._done.set()


def look_up(name: str) -> LookUp:
    """Start to look up the uid of a user; a number means a user whose name is not known."""

    def work(found: dict[str, int]) -> None:
        try:
            found[name] = pwd.getpwnam(name).pw_uid
        except KeyError:
            if name.isascii() and name.isdecimal():
                found[name] = int(name)

    return LookUp(work)
