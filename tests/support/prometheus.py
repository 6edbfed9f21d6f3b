"""A real Prometheus and a real Alertmanager, unpacked by tests/prometheus/install, on ports of their own."""

import json
import os
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from support.daemon import PATIENCE, until
from support.ports import free_port

from canhazgpu.cli.operations import monitoring_files

ROOT = Path(__file__).parents[2]
UNPACKED = ROOT / "build" / "prometheus"
PACKAGES = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
}
# Debian's Alertmanager reads its templates where the package is installed: there, for this process alone.
TEMPLATES = """\
mount -t tmpfs none /usr/share && mkdir /usr/share/prometheus &&
mount --bind "$1" /usr/share/prometheus && shift && exec "$@"
"""
SHARED = UNPACKED / "prometheus-alertmanager" / "usr" / "share" / "prometheus"
OWN_MOUNTS = [
    "unshare",
    *([] if os.geteuid() == 0 else ["--map-root-user"]),
    "--mount",
    "sh",
    "-c",
    TEMPLATES,
]
CONFIG = """\
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: ["{folder}/canhazgpu.*.yml"]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ["{alertmanager}"]}}]}}]}}
scrape_configs:
  - job_name: canhazgpu
    static_configs: [{{targets: ["{exporter}"]}}]
"""
ALERTMANAGER = """\
route: {{receiver: test, group_by: ["..."], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}
receivers: [{{name: test, webhook_configs: [{{url: "{url}", send_resolved: true}}]}}]
"""


def program(name: str) -> str:
    """Return the path of a program; skip the test if there is none, or fail where all tests have to run."""
    path = UNPACKED / PACKAGES[name] / "usr" / "bin" / name
    if not path.exists():
        absent = f"{name} is not there: make test-prometheus unpacks it"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(absent)
    return str(path)


def promtool(*words: str, given: str = "") -> "subprocess.CompletedProcess[str]":
    """Run promtool."""
    return subprocess.run(
        [program("promtool"), *words],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


class Prometheus:
    """A Prometheus that scrapes one exporter every second; the alerts that are shipped do not wait."""

    def __init__(self, address: str) -> None:
        self.address = address

    def ask(self, path: str, **query: str) -> Any:
        """Return the data of an answer of its API."""
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return json.load(answer)["data"]

    def value(self, expression: str) -> float | None:
        """Return the value of an expression that has one, or None."""
        found = self.ask("query", query=expression)["result"]
        assert len(found) <= 1, found
        return float(found[0]["value"][1]) if found else None


@contextmanager
def prometheus(folder: Path, exporter: str, webhook: str) -> Iterator[Prometheus]:
    """Run Prometheus and Alertmanager on an exporter; alerts are sent to the URL `webhook`."""
    monitoring_files.prometheus(to=str(folder))
    alerts = folder / monitoring_files.ALERTS
    alerts.write_text(re.sub(r"\bfor: \w+", "for: 0s", alerts.read_text()))
    own, alertmanager = (f"127.0.0.1:{free_port()}" for _ in range(2))
    (folder / "prometheus.yml").write_text(
        CONFIG.format(folder=folder, alertmanager=alertmanager, exporter=exporter)
    )
    (folder / "alertmanager.yml").write_text(ALERTMANAGER.format(url=webhook))
    commands = (
        [
            *(*OWN_MOUNTS, "sh", str(SHARED), program("prometheus-alertmanager")),
            f"--config.file={folder}/alertmanager.yml",
            f"--storage.path={folder}/alertmanager",
            f"--web.listen-address={alertmanager}",
            "--cluster.listen-address=",
        ],
        [
            program("prometheus"),
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address={own}",
        ],
    )
    with (folder / "output.log").open("ab") as log:
        running = [subprocess.Popen(words, stdout=log, stderr=log) for words in commands]
        try:
            found = Prometheus(own)
            until(lambda: _is_ready(own) and _is_ready(alertmanager), 60)
            yield found
        except AssertionError as error:
            raise AssertionError(f"{error}: {(folder / 'output.log').read_text()[-3000:]}") from None
        finally:
            for one in running:
                one.kill()
                one.wait()


def _is_ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/-/ready", timeout=PATIENCE) as answer:
            return bool(answer.status == HTTPStatus.OK)
    except OSError:
        return False
