"""`canhazgpu worker`: run the workers in a separate process, next to `canhazgpu serve --no-workers`."""

from typing import Annotated, Any

import typer

from canhazgpu.cli.exit_codes import REFUSED, USAGE
from canhazgpu.cli.output import examples, fail
from canhazgpu.events.timestamps import use_zone

EPILOG = examples("canhazgpu worker", "canhazgpu worker --name worker-2")


def worker(
    name: Annotated[
        str, typer.Option(help="Name in the consumer groups; must be unique per process.", metavar="NAME")
    ] = "worker",
) -> None:
    """Send notices and write the audit log until SIGTERM or Ctrl-C."""
    from canhazgpu.service import logs  # noqa: PLC0415 - heavy, as are the next ones

    logs.configure()
    import anyio  # noqa: PLC0415

    from canhazgpu.config.load import ConfigError, load  # noqa: PLC0415
    from canhazgpu.notifiers.plugins import PluginFailed, plugins  # noqa: PLC0415
    from canhazgpu.service.lock import AlreadyRunning  # noqa: PLC0415

    try:
        settings = load().settings
    except ConfigError as error:
        fail(str(error), USAGE)
    if not name.replace("-", "").isalnum() or name == "daemon":
        fail("--name: expected letters, digits and '-', and not 'daemon'", USAGE)
    try:
        use_zone(settings.notices.quiet.timezone)
        list(plugins(settings))  # Report a missing plugin before anything starts.
        anyio.run(_work, settings, name)
    except PluginFailed as failed:
        fail(str(failed), REFUSED)
    except AlreadyRunning as error:
        fail(f"{error}; choose another --name", REFUSED)
    except OSError as error:
        fail(f"state_dir: {error}", REFUSED)


async def _work(settings: Any, name: str) -> None:
    import signal  # noqa: PLC0415 - as above
    from pathlib import Path  # noqa: PLC0415

    import anyio  # noqa: PLC0415

    from canhazgpu.events.redis_client.store import Store  # noqa: PLC0415
    from canhazgpu.service.lock import Lock  # noqa: PLC0415
    from canhazgpu.service.redis_server.embedded import EmbeddedRedis  # noqa: PLC0415
    from canhazgpu.service.storage.machine_id import this_machine  # noqa: PLC0415
    from canhazgpu.workers.run import run_workers  # noqa: PLC0415

    state = Path(settings.state_dir)
    lock = Lock(state / f"{name}.lock")
    store = Store(settings.redis.endpoint(EmbeddedRedis(state).url), settings.host)
    store.owner = this_machine(state).boot_text
    try:
        async with anyio.create_task_group() as work:
            await work.start(run_workers, settings, store, name)
            with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                async for _ in signals:
                    work.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await store.close()
        lock.release()
