"""`canhazgpu events --group NAME`: a durable consumer, which prints each event or runs a program for it."""

import logging
import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from canhazgpu.cli.exit_codes import INTERRUPTED, REFUSED, USAGE, CommandEnded
from canhazgpu.cli.notices.program import Program, ProgramFailed
from canhazgpu.cli.output import fail
from canhazgpu.events.sanitize import printable

if TYPE_CHECKING:
    from canhazgpu.config.settings import Settings
    from canhazgpu.events.consumer.consumer import Consumer
    from canhazgpu.events.consumer.stream_event import StreamEvent
    from canhazgpu.events.redis_client.endpoint import Endpoint

FINISHING = "canhazgpu: finishing the event at hand; a second signal ends it\n"
LONGEST = 400
SAY_AGAIN = 60.0  # Seconds until a message that has not changed is repeated.
PARAMETERS = ("group", "name", "attempts")  # Of the library; the options have the same names.
ENVELOPE = ("id", "source", "type", "subject", "time", "data", "specversion", "datacontenttype")


class Choices(msgspec.Struct, frozen=True, kw_only=True):
    """What was chosen on the command line; None is the default of the library."""

    group: str
    exec: str | None = None
    stream: str | None = None
    name: str | None = None
    begin: str | None = None
    attempts: int | None = None
    dead_letters: str | None = None


def consume(choices: Choices, types: Sequence[str], print_event: Callable[[dict[str, Any]], None]) -> None:
    """Pass on each event of the group once it comes, until Ctrl-C or SIGTERM.

    `print_event` writes an event to standard output, if no program is to be run.
    """
    import anyio  # noqa: PLC0415 - heavy, as are the next ones

    from canhazgpu.config.load import ConfigError, load  # noqa: PLC0415

    try:
        settings = load().settings
    except ConfigError as error:
        fail(str(error), USAGE)
    consumer = _consumer(settings, choices, types)
    _report_on_stderr()
    worker = _Worker(consumer, Program(choices.exec) if choices.exec else None, print_event)
    anyio.run(worker.run)
    if worker.failure is not None:
        _end(worker.failure, choices)
    if worker.signal == signal.SIGINT:
        raise CommandEnded(INTERRUPTED)


def _consumer(settings: "Settings", choices: Choices, types: Sequence[str]) -> "Consumer":
    from canhazgpu.events.consumer.consumer import Consumer  # noqa: PLC0415 - heavy

    where = _endpoint(settings)
    if choices.stream == "notices" and choices.group in settings.notify.on:
        fail(f"--group: the channel {choices.group} uses this name: choose another", USAGE)
    if choices.dead_letters:
        _check_file(Path(choices.dead_letters))
    chosen: dict[str, Any] = {
        name: value
        for name in ("stream", "name", "begin", "attempts", "dead_letters")
        if (value := getattr(choices, name)) is not None
    }
    try:
        return Consumer(where, host=settings.host, group=choices.group, types=types, **chosen)
    except ValueError as error:
        option, _, reason = str(error).partition(": ")
        fail(f"--{option}: {reason}" if option in PARAMETERS else str(error), USAGE)


def _endpoint(settings: "Settings") -> "Endpoint":
    """Return where the streams are; exit if this user cannot read them there."""
    own = ""
    if not settings.redis.url:
        from canhazgpu.service.redis_server.embedded import EmbeddedRedis  # noqa: PLC0415 - heavy

        own = EmbeddedRedis(Path(settings.state_dir)).url
    where = settings.redis.endpoint(own)
    parts = urlsplit(where.url)
    if unreadable := where.unreadable():
        fail(unreadable, REFUSED)
    if parts.scheme == "unix" and not _may_open(parts.path):
        remedy = "without --group, every user can follow events"
        fail(
            f"--group: only root and the user that the service runs as can open {parts.path}; {remedy}",
            REFUSED,
        )
    return where


def _may_open(path: str) -> bool:
    """Return whether this user may connect to a socket; one that is not there yet may come."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - what is wrong is in the error
    except PermissionError:
        return False
    except OSError:
        return True
    return not stat.S_ISSOCK(mode) or os.access(path, os.R_OK | os.W_OK)


def _check_file(path: Path) -> None:
    try:
        path.open("ab").close()
    except OSError as error:
        fail(f"--dead-letters: {printable(str(path), LONGEST)}: {error.strerror or error}", REFUSED)


class _Worker:
    """Handles the events of one consumer; `failure` is why it has ended by itself, `signal` what ended it."""

    def __init__(
        self, consumer: "Consumer", program: Program | None, print_event: Callable[[dict[str, Any]], None]
    ) -> None:
        self._consumer, self._program, self._print = consumer, program, print_event
        self.failure: Exception | None = None
        self.signal: int | None = None
        self._is_busy = False

    async def run(self) -> None:
        import anyio  # noqa: PLC0415 - heavy

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._stop_at_signal)
            try:
                await self._consumer.run(self._handle)
            except Exception as error:  # noqa: BLE001 - what is unknown is raised again, without the group
                self.failure = error
            tasks.cancel_scope.cancel()

    async def _stop_at_signal(self) -> None:
        """At the first signal, let the event at hand finish; at the second, end as if it were not handled."""
        import anyio  # noqa: PLC0415 - heavy

        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for number in signals:
                if self.signal is not None:
                    if self._program:
                        self._program.end()
                    signal.signal(number, signal.SIG_DFL)
                    os.kill(os.getpid(), number)
                self.signal = number
                self._consumer.stop()
                if self._is_busy:
                    sys.stderr.write(FINISHING)
                    sys.stderr.flush()

    def _handle(self, event: "StreamEvent") -> None:
        """Handle an event in a thread, because a program or a reader may take long."""
        from canhazgpu.events.consumer.handling import TryAgain  # noqa: PLC0415 - heavy

        facts = {"stream_id": event.stream_id, **{name: getattr(event, name) for name in ENVELOPE}}
        self._is_busy = True
        try:
            if self._program:
                self._program.run(facts)
            else:
                self._write(facts)
        except (ProgramFailed, TryAgain) as error:
            if self.signal is not None:  # Else it is tried again, and the library says so.
                sys.stderr.write(f"canhazgpu: event {event.id}: {error}; it stays pending\n")
            raise
        finally:
            self._is_busy = False

    def _write(self, facts: dict[str, Any]) -> None:
        from anyio import from_thread  # noqa: PLC0415 - heavy

        try:
            self._print(facts)
        except OSError as error:  # Nobody reads the output, or the disk is full.
            self.failure = error
            from_thread.run_sync(partial(self._consumer.stop, acknowledge=False))
            raise


class _OneLine(logging.Handler):
    """Writes what the library reports to standard error: one line each, and no line again and again."""

    def __init__(self) -> None:
        super().__init__()
        self._last, self._said = "", 0.0

    def emit(self, record: logging.LogRecord) -> None:
        text, now = printable(record.getMessage(), LONGEST), time.monotonic()
        if text != self._last or now - self._said >= SAY_AGAIN:
            self._last, self._said = text, now
            sys.stderr.write(f"canhazgpu: {text}\n")
            sys.stderr.flush()


def _report_on_stderr() -> None:
    log = logging.getLogger("canhazgpu.events")
    log.addHandler(_OneLine())
    log.propagate = False


def _end(failure: Exception, choices: Choices) -> None:
    """Exit with one line if this is an expected failure."""
    from redis.exceptions import RedisError  # noqa: PLC0415 - heavy, as is the next one

    from canhazgpu.events.consumer.dead_letters import GivenUp  # noqa: PLC0415

    if isinstance(failure, GivenUp):
        fail(f"{printable(str(failure), LONGEST)}; --dead-letters FILE would set such events aside", REFUSED)
    if isinstance(failure, RedisError):
        fail(f"Redis refuses: {printable(str(failure), LONGEST)}", REFUSED)
    if isinstance(failure, OSError) and failure.filename == choices.dead_letters and choices.dead_letters:
        fail(f"--dead-letters: {printable(choices.dead_letters, LONGEST)}: {failure.strerror}", REFUSED)
    raise failure
