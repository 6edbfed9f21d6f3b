"""`canhazgpu serve`: run the daemon. This is the only place that combines the service and the workers."""

from __future__ import annotations

from canhazgpu.cli.exit_codes import REFUSED, USAGE
from canhazgpu.cli.output import examples, fail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Annotated

    import typer

EPILOG = examples("canhazgpu serve", "canhazgpu serve --config lab.toml", "canhazgpu serve --no-workers")


def serve(
    *,
    workers: Annotated[
        bool,
        typer.Option(
            "--workers/--no-workers", help="Send notices from this process, or from `canhazgpu worker`."
        ),
    ] = True,
) -> None:
    """Run the service until SIGTERM or Ctrl-C."""
    from canhazgpu.service import logs  # noqa: PLC0415 - heavy, as are the next ones

    logs.configure()
    import anyio  # noqa: PLC0415

    from canhazgpu.config.load import ConfigError, load  # noqa: PLC0415
    from canhazgpu.events.timestamps import use_zone  # noqa: PLC0415
    from canhazgpu.notifiers.plugins import PluginFailed, plugins  # noqa: PLC0415
    from canhazgpu.service import daemon  # noqa: PLC0415
    from canhazgpu.service.prerequisites import ServeFailed  # noqa: PLC0415
    from canhazgpu.workers.run import run_workers  # noqa: PLC0415

    try:
        settings = load().settings
    except ConfigError as error:
        fail(str(error), USAGE)
    try:
        use_zone(settings.notices.quiet.timezone)
        if workers:
            list(plugins(settings))  # Report a missing plugin before anything starts.
        anyio.run(daemon.serve, settings, run_workers if workers else None)
    except (ServeFailed, PluginFailed) as failed:
        fail(str(failed), REFUSED)
