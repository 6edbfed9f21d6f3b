"""`canhazgpu exporter`: the command that serves the metrics until it is stopped."""

from __future__ import annotations

from typing import Annotated

import typer

from canhazgpu.cli.arguments import non_empty
from canhazgpu.cli.exit_codes import REFUSED, USAGE
from canhazgpu.cli.output import examples, fail

EPILOG = examples(
    "canhazgpu exporter",
    "canhazgpu exporter --listen 0.0.0.0:9836",
    "curl -s http://127.0.0.1:9836/metrics",
    "canhazgpu install exporter",
)


def exporter(
    *,
    listen: Annotated[
        str | None,
        typer.Option(
            "--listen",
            help="Address and port of the metrics (default: the exporter.listen setting, 127.0.0.1:9836).",
            metavar="HOST:PORT",
            callback=non_empty,
        ),
    ] = None,
) -> None:
    """Serve this host's metrics to Prometheus.

    The metrics are at /metrics. This process needs no privileges: it asks the service, as any command does.
    While the service does not answer, canhazgpu_up is 0. The exporter runs until SIGTERM or Ctrl-C.
    """
    from canhazgpu.client.connection import BadSettings  # noqa: PLC0415 - as the next ones
    from canhazgpu.config.addresses import BadAddress, split_address  # noqa: PLC0415
    from canhazgpu.config.load import ConfigError, load  # noqa: PLC0415 - heavy

    try:
        from canhazgpu.cli.exporter.exporter import run  # noqa: PLC0415 - heavy

        settings = load().settings.exporter
        run(split_address(listen or settings.listen), settings.users)
    except ModuleNotFoundError as error:
        if error.name != "prometheus_client":
            raise
        fail("this needs prometheus-client: pip install 'canhazgpu[exporter]'", REFUSED)
    except (BadSettings, ConfigError) as error:
        fail(str(error), USAGE)
    except BadAddress as error:
        fail(f"--listen: expected {error}", USAGE)
    except OSError as error:
        where = listen or settings.listen
        fail(f"cannot listen on {where}: {error.strerror}; choose another address", REFUSED)
