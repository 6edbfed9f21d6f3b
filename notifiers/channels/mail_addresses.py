"""Finds the email address of a user: in the table, the user database, with the site's program, or by pattern.

An answer is used only if it looks like an address. A source that fails is logged, and the next one is tried.
Programs that hang are killed.
"""

import os
import re
import time
from collections.abc import Callable

import structlog

from canhazgpu.config.channels import Email
from canhazgpu.config.fields import ADDRESS
from canhazgpu.events.sanitize import printable
from canhazgpu.notifiers.channels.site_program import run

GETENT = (
    "/usr/bin/getent",
    "/bin/getent",
)  # Unlike a libc call, a program can be killed if a directory hangs.
PATIENCE = 5.0  # Seconds for each program.
KEEP, KEEP_FAILURE = 600.0, 60.0  # Seconds for which an answer is cached, and a failure is not retried.
MOST_KEPT = 10_000
UNKNOWN = 2  # The exit status of getent for an unknown user.
COMMENT_FIELD = 4  # name:password:uid:gid:comment:home:shell
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")  # Nothing that a program could take for an option.
_ADDRESS = re.compile(ADDRESS)


class LookupFailed(Exception):
    """A program did not give a valid answer."""


class Addresses:
    """Finds addresses, and caches the answers of programs for some minutes."""

    def __init__(self, settings: Email, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the sources from the settings; `clock` counts seconds."""
        self._settings = settings
        self._clock = clock
        self._cache: dict[str, tuple[float, str | None]] = {}

    async def of(self, user: str) -> str | None:
        """Return the address of a user, or None if there is none.

        A number means a user whose name is not known, who therefore has no address.
        """
        listed = self._settings.addresses.get(user)
        if listed or user.isdecimal() or not _USER.fullmatch(user):
            return listed
        if self._settings.gecos or self._settings.address_command:
            until, address = self._cache.get(user, (0.0, None))
            if until <= self._clock():
                address = await self._look_up(user)
            if address:
                return address
        made = self._settings.user_address.replace("{user}", user)
        return made if _ADDRESS.fullmatch(made) else None

    async def _look_up(self, user: str) -> str | None:
        """Run the programs and cache the answer; a failure is cached for a shorter time."""
        failed = False
        for rung in (self._comment, self._command):
            try:
                address = await rung(user)
            except LookupFailed as failure:
                failed = True
                structlog.get_logger().warning("no_address", user=printable(user), reason=str(failure))
                continue
            if address:
                return self._store(user, address, KEEP)
        return self._store(user, None, KEEP_FAILURE if failed else KEEP)

    def _store(self, user: str, address: str | None, seconds: float) -> str | None:
        if len(self._cache) >= MOST_KEPT:
            self._cache.clear()
        self._cache[user] = (self._clock() + seconds, address)
        return address

    async def _comment(self, user: str) -> str | None:
        """Return the first address in the comment field of the user database."""
        if not self._settings.gecos:
            return None
        program = next((path for path in GETENT if os.access(path, os.X_OK)), GETENT[0])
        fields = (await _first_line([program, "passwd", user], unknown=UNKNOWN)).split(":")
        words = re.split(r"[\s,;<>()\"]+", fields[COMMENT_FIELD]) if len(fields) > COMMENT_FIELD else []
        return next(filter(_ADDRESS.fullmatch, words), None)

    async def _command(self, user: str) -> str | None:
        """Return the output of the site's program; no output means no address."""
        if not self._settings.address_command:
            return None
        answer = (await _first_line([*self._settings.address_command, user])).strip()
        if answer and not _ADDRESS.fullmatch(answer):
            raise LookupFailed(f"the answer is not an email address: {printable(answer)}")
        return answer or None


async def _first_line(command: list[str], unknown: int = 0) -> str:
    """Return the first output line of a program; the exit status `unknown` means that there is none."""
    name = os.path.basename(command[0])  # noqa: PTH119 - a name to show
    try:
        ended = await run(command, {}, PATIENCE, with_errors=False)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise LookupFailed(f"{name} cannot be started: {reason or type(error).__name__}") from error
    if ended.status is None:
        raise LookupFailed(f"{name} did not end within {PATIENCE:g} s")
    if ended.status not in (0, unknown):
        raise LookupFailed(f"{name} ended with status {ended.status}")
    return ended.first.partition(b"\n")[0].decode("utf-8", "replace")
