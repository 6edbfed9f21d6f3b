"""Look-ups in the user database, which may hang: each one has its own thread and a deadline."""

import contextlib
import pwd
import threading
from collections.abc import Callable

import anyio.to_thread

PATIENCE = 2.0  # Seconds.


class LookUp:
    """A look-up in progress. Its thread does not prevent the process from exiting."""

    def __init__(self, work: Callable[[dict[str, int]], None]) -> None:
        """Start the look-up; `work` adds every name and uid that it finds to its argument."""
        self._found: dict[str, int] = {}
        self._done = threading.Event()
        self._work = work
        threading.Thread(target=self._run, name="look-up", daemon=True).start()

    @property
    def ended(self) -> bool:
        """Whether the look-up has finished."""
        return self._done.is_set()

    async def found(self, patience: float | None = None) -> dict[str, int]:
        """Wait for `seconds`, or the default time; return the results so far."""
        if not self.ended:
            wait = PATIENCE if patience is None else patience
            await anyio.to_thread.run_sync(self._done.wait, wait, abandon_on_cancel=True)
        return dict(self._found)

    def _run(self) -> None:
        try:
            with contextlib.suppress(KeyError, OSError, ValueError):
                self._work(self._found)
        finally:
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
