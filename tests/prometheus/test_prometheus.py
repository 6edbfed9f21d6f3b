"""The exporter before a real Prometheus, and its alerts before a real Alertmanager."""

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.daemon import Daemon, gpu, serving, until
from support.exporter import Exporter, exporting
from support.prometheus import ROOT, Prometheus, prometheus, promtool
from support.receiver import Receiver, receiving

pytestmark = pytest.mark.prometheus
MONITORING = ROOT / "config" / "monitoring"


@pytest.fixture(scope="module")
def host() -> Iterator[Daemon]:
    """A service on two idle GPUs."""
    with serving(2) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def exporter(host: Daemon) -> Iterator[Exporter]:
    """Its exporter."""
    with exporting(host) as found:
        yield found


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """What gets the alerts."""
    with receiving() as found:
        yield found


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, exporter: Exporter, receiver: Receiver
) -> Iterator[Prometheus]:
    """A Prometheus that scrapes the exporter, with the alerts that are shipped."""
    with prometheus(tmp_path_factory.mktemp("prometheus"), exporter.address, receiver.url) as found:
        yield found


def alerts(receiver: Receiver, name: str) -> list[dict[str, Any]]:
    """Return each message about an alert that was received, in order."""
    bodies = [json.loads(request.body) for request in receiver.taken]
    return [alert for body in bodies for alert in body["alerts"] if alert["labels"]["alertname"] == name]


def test_promtool_finds_nothing_to_complain_about(exporter: Exporter) -> None:
    """In the metrics: names, units, types and helps are as Prometheus wants them."""
    checked = promtool("check", "metrics", given=exporter.text())
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


@pytest.mark.parametrize("name", ["canhazgpu.alerts.yml", "canhazgpu.recording.yml"])
def test_the_rules_are_valid(name: str) -> None:
    """Also to promtool's linter."""
    checked = promtool("check", "rules", "--lint=all", "--lint-fatal", str(MONITORING / name))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_rules_do_what_their_tests_say() -> None:
    """`promtool test rules`: when each alert fires, when it does not, and what the recorded values are."""
    checked = promtool("test", "rules", str(Path(__file__).parent / "rules_test.yml"))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_it_is_scraped(host: Daemon, server: Prometheus) -> None:
    """Prometheus reads all metrics, and records the values of the rules."""
    until(lambda: server.value('up{job="canhazgpu"}') == 1)
    until(lambda: server.value('canhazgpu_gpus{state="available"}') == 2)
    assert host.run("reserve", "--gpus", "1", "--duration", "1h").returncode == 0
    until(lambda: server.value("instance:canhazgpu_gpus_reserved:ratio") == 0.5)
    until(lambda: server.value("user:canhazgpu_reserved_gpus:sum") == 1)
    assert host.run("release").returncode == 0
    kinds = {one["type"] for (one,) in server.ask("metadata").values()}
    assert {"gauge", "counter", "histogram"} <= kinds


def test_the_dashboard_gets_an_answer_to_every_question(server: Prometheus) -> None:
    """Prometheus can evaluate each expression of each panel."""
    until(lambda: server.value("canhazgpu_up") == 1)
    dashboard = json.loads((MONITORING / "canhazgpu.dashboard.json").read_text())
    targets = [target for panel in dashboard["panels"] for target in panel["targets"]]
    assert targets
    for target in targets:
        expression = target["expr"].replace("$instance", ".*").replace("$__rate_interval", "1m")
        assert server.ask("query", query=expression)["resultType"] == "vector", expression


def test_an_alert_is_fired_and_received(host: Daemon, server: Prometheus, receiver: Receiver) -> None:
    """A GPU that fails is an alert that says which one and what to do; when it works again, that is over."""
    until(lambda: server.value("canhazgpu_up") == 1)
    host.place(gpu(0, memory_used_mb=45), gpu(1, error="GPU_IS_LOST"))
    fired = until(lambda: alerts(receiver, "CanhazgpuGpuError"), 60)[0]
    assert (fired["status"], fired["labels"]["gpu"]) == ("firing", "1")
    assert re.fullmatch(r"127\.0\.0\.1:\d+: GPU 1 cannot be read", fired["annotations"]["summary"])
    assert "`canhazgpu status` says why" in fired["annotations"]["description"]
    host.place(gpu(0, memory_used_mb=45), gpu(1, memory_used_mb=45))
    until(lambda: alerts(receiver, "CanhazgpuGpuError")[-1]["status"] == "resolved", 60)


def test_a_service_that_is_away_is_an_alert(host: Daemon, server: Prometheus, receiver: Receiver) -> None:
    """The exporter outlives it and says so."""
    until(lambda: server.value("canhazgpu_up") == 1)
    host.stop(signal.SIGKILL)
    until(lambda: alerts(receiver, "CanhazgpuDown"), 60)
    assert server.value('up{job="canhazgpu"}') == 1
    host.start()
    until(lambda: alerts(receiver, "CanhazgpuDown")[-1]["status"] == "resolved", 60)
