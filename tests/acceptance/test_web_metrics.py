"""The metrics of `canhazgpu web`: those of the exporter, in the process of the page."""

import signal
import subprocess
import sys
from collections.abc import Iterator

import anyio
import httpx
import pytest
from support.daemon import Daemon, until
from support.exporter import exporting, values
from support.web import Page, page_of

from canhazgpu.cli.web.metrics import Metrics

PATH = "/metrics"


@pytest.fixture(scope="module")
def page(lasting_host: Daemon) -> Iterator[Page]:
    """The page of a service on four idle GPUs, whose figures nobody has asked for."""
    with page_of(lasting_host) as page:
        yield page


def value(page: Page, name: str, **labels: str) -> float | None:
    """Return one value, or None if there is none with exactly these labels."""
    return values(page.get(PATH).text).get((name, frozenset(labels.items())))


def test_they_are_those_of_the_exporter(page: Page, lasting_host: Daemon) -> None:
    """The same metrics with the same labels, in the format that is asked for."""
    answer = page.get(PATH, headers={"Accept": "application/openmetrics-text;version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.text.endswith("# EOF\n")
    with exporting(lasting_host) as exporter:
        exporter.text()  # It learns the names of the channels.
        assert set(values(page.get(PATH).text)) == set(values(exporter.text()))
    assert value(page, "canhazgpu_gpus", state="available") == 4
    assert page.memory_mb() < 80


def test_events_are_counted_from_the_first_request_on(lasting_host: Daemon) -> None:
    """A reservation is counted when it begins, but not one from before that."""
    created = {"name": "canhazgpu_reservations_created_total", "kind": "manual"}
    with page_of(lasting_host) as own:
        for count in (0, 1):
            assert lasting_host.run("reserve", "--gpus", "1").returncode == 0
            assert lasting_host.run("release").returncode == 0
            until(lambda count=count: value(own, **created) == count)  # type: ignore[misc]


def test_another_name_is_refused(page: Page) -> None:
    """A site whose name points to the loopback address does not read the figures either."""
    assert page.get(PATH, headers={"Host": "evil.example"}).status_code == 421


def test_a_service_that_hangs_is_away_and_the_page_goes_on(host: Daemon) -> None:
    """While the service does not answer, `canhazgpu_up` is 0, and other requests are answered."""
    until(lambda: "AVAILABLE" in host.status())
    assert host.process
    with page_of(host) as own:
        assert value(own, "canhazgpu_up") == 1
        host.process.send_signal(signal.SIGSTOP)
        try:
            until(lambda: value(own, "canhazgpu_up") == 0)
            assert own.get("/static/none").status_code == 404
        finally:
            host.process.send_signal(signal.SIGCONT)
        until(lambda: value(own, "canhazgpu_up") == 1)
        assert own.stop() == 0


def test_a_thread_that_crashes_is_told(lasting_host: Daemon) -> None:
    """Else its counters would stand still, and nobody would know; the page itself goes on."""
    program = (
        "import sys\n"
        "from canhazgpu.cli.exporter import event_counts\n"
        "event_counts.EventCounts.count = lambda counts, event: 1 / 0\n"
        "sys.argv = ['canhazgpu', 'web', '--listen', '127.0.0.1:0']\n"
        "from canhazgpu.cli.main import main\n"
        "main()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env=lasting_host.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stderr
        url = process.stdout.readline().split()[-1]
        assert httpx.get(f"{url}metrics", timeout=60).status_code == 200
        lasting_host.run("reserve", "--gpus", "1")
        lasting_host.run("release")
        until(lambda: httpx.get(f"{url}metrics", timeout=60).status_code == 500)
        assert "restart canhazgpu web" in httpx.get(f"{url}metrics", timeout=60).text
        assert httpx.get(url, timeout=60).status_code == 200
        process.terminate()
        assert "ZeroDivisionError" in process.stderr.read()


def test_without_the_package_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is 501 and one line."""
    for name in [name for name in sys.modules if name.startswith(("canhazgpu.cli.exporter.", "prometheus_"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)

    async def asked() -> tuple[int, str, bytes]:
        return await Metrics("/nowhere", 1).answer("")

    status, _, body = anyio.run(asked)
    assert (status, body) == (501, b"this needs prometheus-client: pip install 'canhazgpu[exporter]'\n")
