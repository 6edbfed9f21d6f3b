"""Shared by the commands that access Redis directly: opening the state, errors, progress."""

import sys
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Self

from canhazgpu.cli.exit_codes import REFUSED, UNREACHABLE, USAGE
from canhazgpu.cli.output import fail
from canhazgpu.events.sanitize import printable

if TYPE_CHECKING:
    from canhazgpu.events.redis_client.store import Store

RIGHTS = (
    "info",
    "keys",
    "dump",
    "pttl",
    "restore",
    "rename",
    "type",
    "xclaim",
    "xgroup|setid",
)  # In addition to those of the service.


def on_state(
    work: Callable[["Store"], Awaitable[dict[str, Any]]], *, alone: bool, about: str
) -> dict[str, Any]:
    """Run `work` on this host's state and return its result; exit with a one-line error if it fails.

    `alone`: the service must not be running. `about` is the file or URL that errors refer to.
    """
    import anyio  # noqa: PLC0415 - heavy, as are the next ones

    from canhazgpu.config.load import ConfigError, load  # noqa: PLC0415
    from canhazgpu.service import logs  # noqa: PLC0415
    from canhazgpu.service.backup.offline_access import open_offline  # noqa: PLC0415

    try:
        settings = load().settings
    except ConfigError as error:
        fail(str(error), USAGE)
    logs.configure()

    async def run() -> dict[str, Any]:
        async with open_offline(settings, alone=alone) as store:
            return await work(store)

    try:
        return anyio.run(run)
    except BaseException as caught:  # noqa: BLE001 - a group; unknown errors are raised again
        first = _first(caught)
        _end(first, about)
        raise first from None


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _end(error: BaseException, about: str) -> None:
    """Exit with one line if this is an expected error."""
    from redis.exceptions import NoPermissionError  # noqa: PLC0415 - heavy, as are the next ones

    from canhazgpu.events.redis_client.store import StoreDown  # noqa: PLC0415
    from canhazgpu.service.backup.archive import BadBackup  # noqa: PLC0415
    from canhazgpu.service.backup.offline_access import Unavailable  # noqa: PLC0415
    from canhazgpu.service.backup.state_copy import CopyFailed  # noqa: PLC0415
    from canhazgpu.service.redis_server.server_program import EmbeddedFailed  # noqa: PLC0415

    if isinstance(error, BadBackup):
        fail(f"{printable(about, 300)}: {error}; nothing was changed: use another backup", REFUSED)
    if isinstance(error, Unavailable | CopyFailed | EmbeddedFailed):
        fail(str(error), REFUSED)
    if isinstance(error, StoreDown):
        fail(str(error), UNREACHABLE)
    if isinstance(error, NoPermissionError):
        remedy = f"its ACL user also needs +{' +'.join(RIGHTS)}"
        fail(f"Redis refuses: {' '.join(str(error).split())}; {remedy}", REFUSED)
    if isinstance(error, OSError):
        fail(f"{printable(error.filename or about, 300)}: {error.strerror or error}", REFUSED)


class Progress:
    """A progress line on standard error; nothing is shown if that is not a terminal."""

    def __init__(self, verb: str) -> None:
        """Show `verb` before the number."""
        self._verb, self._shown = verb, sys.stderr.isatty()
        self._said = 0.0

    def __enter__(self) -> Self:
        """Start."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the line."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")

    def at(self, number: int) -> None:
        """Show the number of keys done, a few times per second."""
        if self._shown and time.monotonic() - self._said > 0.2:  # noqa: PLR2004
            self._said = time.monotonic()
            sys.stderr.write(f"\r{self._verb} {number} keys")
            sys.stderr.flush()
