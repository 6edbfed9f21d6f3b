"""`canhazgpu events conformance`: check a consumer in any language, with events of every type."""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer

from canhazgpu.cli.arguments import checked_duration, non_empty
from canhazgpu.cli.exit_codes import REFUSED, UNREACHABLE, USAGE, CommandEnded
from canhazgpu.cli.output import examples, fail, print_json
from canhazgpu.events.durations import parse_duration
from canhazgpu.events.sanitize import printable

LONGEST = 400
START_PATIENCE = 30.0  # Seconds.
EPILOG = examples(
    "canhazgpu events conformance -- python3 docs/examples/echo.py",
    "canhazgpu events conformance --redis redis://localhost:6379 -- node docs/examples/echo.mjs",
    "canhazgpu events conformance --json -- ./consumer",
)


def conformance(
    command: Annotated[
        list[str],
        typer.Argument(
            help="The consumer. It gets the variables CONFORMANCE_REDIS (URL), CONFORMANCE_STREAM (key) and"
            " CONFORMANCE_GROUP, prints each event as JSON, and acknowledges it.",
        ),
    ],
    redis: Annotated[
        str | None,
        typer.Option(
            help="Use this Redis, with a stream of its own that is removed afterwards (default: start one).",
            metavar="URL",
            callback=non_empty,
        ),
    ] = None,
    timeout: Annotated[
        str, typer.Option(help="How long the consumer may take for each check.", metavar="TIME")
    ] = "30s",
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check a consumer that you wrote, in any language.

    The consumer is tested with an event of every type, with entries that it had read before it was killed,
    and with entries that were removed before it read them. Each difference is printed as a line. The exit
    code is 1 if there is one.
    """
    patience = parse_duration(checked_duration("--timeout", timeout))
    if shutil.which(command[0]) is None:
        fail(f"the command {printable(command[0], LONGEST)} was not found", USAGE)
    with _server(redis) as url:
        found = _run(url, command, patience)
    conforms = not any(found.values())
    if as_json:
        checks = [{"check": name, "differences": lines} for name, lines in found.items()]
        print_json({"conforms": conforms, "checks": checks})
    else:
        for name, lines in found.items():
            sys.stdout.write(f"{'failed' if lines else 'ok':<6}  {name}\n")
            sys.stdout.writelines(f"        {printable(line, LONGEST)}\n" for line in lines)
        sys.stdout.write(f"The consumer {'conforms' if conforms else 'does not conform'}.\n")
    if not conforms:
        raise CommandEnded(REFUSED)


def _run(url: str, command: list[str], patience: float) -> dict[str, list[str]]:
    from redis.exceptions import RedisError  # noqa: PLC0415 - heavy, as is the next one

    from canhazgpu.events.conformance.kit import Kit  # noqa: PLC0415

    try:
        with Kit(url, command, patience) as kit:
            return {name: list(lines) for name, lines in kit.checks()}
    except RedisError as error:
        fail(f"Redis does not answer: {printable(str(error), LONGEST)}", UNREACHABLE)
    except ValueError as error:
        fail(f"--redis: {printable(str(error), LONGEST)}", USAGE)
    except OSError as error:
        fail(f"the consumer cannot be started: {error.strerror or error}", REFUSED)


@contextmanager
def _server(url: str | None) -> Iterator[str]:
    """Yield the URL of the Redis to use; one of our own is removed with its data."""
    if url is not None:
        yield url
        return
    from canhazgpu.service.redis_server.server_program import EmbeddedFailed, any_server  # noqa: PLC0415 - heavy

    try:
        program = any_server()
    except EmbeddedFailed as failed:
        fail(f"{failed}; or name a Redis with --redis URL", REFUSED)
    with tempfile.TemporaryDirectory(prefix="canhazgpu-conformance-") as folder:
        socket = Path(folder) / "redis.sock"
        words = [program, "--port", "0", "--unixsocket", str(socket), "--dir", folder, "--save", ""]
        with subprocess.Popen(words, stdout=subprocess.DEVNULL) as server:
            try:
                _wait_for(f"unix://{socket}", server)
                yield f"unix://{socket}"
            finally:
                server.terminate()


def _wait_for(url: str, server: "subprocess.Popen[bytes]") -> None:
    from redis import Redis  # noqa: PLC0415 - heavy, as is the next one
    from redis.exceptions import RedisError  # noqa: PLC0415

    over = time.monotonic() + START_PATIENCE
    with Redis.from_url(url, protocol=2) as client:
        while time.monotonic() < over and server.poll() is None:
            with suppress(RedisError):
                if client.ping():
                    return
            time.sleep(0.05)
    fail("the Redis for the check did not start; name one with --redis URL", REFUSED)
