"""`canhazgpu install prometheus`: rules for Prometheus, and a dashboard for Grafana."""

import sys
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from canhazgpu.cli.arguments import non_empty
from canhazgpu.cli.operations.host_files import shown, write
from canhazgpu.cli.output import examples

EPILOG = examples("canhazgpu install prometheus", "canhazgpu install prometheus --to .")
FOLDER = "/etc/prometheus"
ALERTS, RECORDING, DASHBOARD = (
    "canhazgpu.alerts.yml",
    "canhazgpu.recording.yml",
    "canhazgpu.dashboard.json",
)


def prometheus(
    *,
    to: Annotated[
        str | None,
        typer.Option("--to", help="Write into this directory.", metavar="DIR", callback=non_empty),
    ] = None,
) -> None:
    """Write alert rules and recording rules for Prometheus, and a dashboard for Grafana.

    Run this where Prometheus runs. The files are written to /etc/prometheus. No configuration is changed. An
    existing file is kept with the suffix .bak.
    """
    folder = Path(to or FOLDER).absolute()
    for name in (ALERTS, RECORDING, DASHBOARD):
        write(folder / name, files("canhazgpu.config").joinpath("monitoring", name).read_text())
    sys.stdout.write(
        "Next: add these lines to prometheus.yml, reload Prometheus, and import the dashboard into Grafana.\n"
        f"  rule_files:\n  - {shown(folder)}/canhazgpu.*.yml\n"
    )
