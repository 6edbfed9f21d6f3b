"""`canhazgpu exporter` beside a real service: what it says, and that nothing ends it."""

import contextlib
import gzip
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from email.message import Message
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from support.daemon import COMMAND, PATIENCE, Daemon, gpu, until
from support.exporter import Exporter, exporting, values
from support.people import Person
from support.ports import free_port

from canhazgpu.cli.exit_codes import CommandEnded
from canhazgpu.cli.exporter import command
from canhazgpu.cli.exporter.http_server import MOST
from canhazgpu.client import Client

GPUS = 4


@pytest.fixture(scope="module")
def exporter(lasting_host: Daemon) -> Iterator[Exporter]:
    """The exporter of a host with four idle GPUs."""
    with exporting(lasting_host) as found:
        yield found


def restored(host: Daemon) -> None:
    """Give everything back."""
    host.run("admin", "release", "--all")
    until(lambda: host.status().count("AVAILABLE") == GPUS)


def test_the_figures_are_those_of_the_host(lasting_host: Daemon, exporter: Exporter) -> None:
    """What the status says: states, memory, and who holds how many GPUs with which kind of reservation."""
    assert lasting_host.run("reserve", "--gpus", "3", "--duration", "1h").returncode == 0
    found = values(exporter.text())
    read = {(name, *sorted(dict(labels).items())): value for (name, labels), value in found.items()}
    assert read["canhazgpu_up",] == 1
    assert read["canhazgpu_gpus", ("state", "in_use")] == 3
    assert read["canhazgpu_gpus", ("state", "available")] == 1
    assert read["canhazgpu_reserved_gpus", ("kind", "manual"), ("user", "root")] == 3
    assert read["canhazgpu_reservations", ("kind", "manual")] == 1
    assert read["canhazgpu_redis_up",] == read["canhazgpu_journal_ok",] == 1
    assert 0 < read["canhazgpu_scan_duration_seconds",] < 10
    used = [value for (name, _), value in found.items() if name == "canhazgpu_gpu_memory_used_bytes"]
    assert used == [45 * 2**20] * GPUS
    restored(lasting_host)


def test_events_are_counted_as_they_happen(lasting_host: Daemon, exporter: Exporter) -> None:
    """Reservations that begin and end, and attempts to deliver a notice, which are on another stream."""
    ended = {"kind": "manual", "reason": "released"}
    before = exporter.value("canhazgpu_reservations_ended_total", **ended)
    assert before is not None
    assert lasting_host.run("reserve", "--gpus", "1").returncode == 0
    assert lasting_host.run("release").returncode == 0
    until(lambda: exporter.value("canhazgpu_reservations_ended_total", **ended) == before + 1)
    Client(str(lasting_host.folder / "s")).post("/v1/notices/test", {"channel": "wall"})

    def attempts() -> float:
        found = values(exporter.text())
        return sum(number for (name, _), number in found.items() if name == "canhazgpu_notice_attempts_total")

    until(attempts)
    channels = {
        dict(labels)["channel"]
        for (name, labels) in values(exporter.text())
        if name == "canhazgpu_notice_attempts_total"
    }
    assert channels == {"wall", "log"}, "each channel is known before it is used"
    restored(lasting_host)


def test_the_wait_of_a_request_is_counted(lasting_host: Daemon, exporter: Exporter) -> None:
    """When it gets its GPUs; until then it is in the queue."""
    assert lasting_host.run("reserve", "--gpus", str(GPUS)).returncode == 0
    words = ("reserve", "--gpus", "2", "--wait", "100s")
    with subprocess.Popen(
        [*COMMAND, *words], env=lasting_host.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as waiting:
        until(lambda: exporter.value("canhazgpu_queue_requests", kind="manual") == 1)
        assert exporter.value("canhazgpu_queue_gpus") == 2
        assert lasting_host.run("release").returncode == 0
        assert waiting.wait(PATIENCE) == 0
    until(lambda: exporter.value("canhazgpu_queue_wait_seconds_count", kind="manual") == 1)
    until(lambda: exporter.value("canhazgpu_queue_requests", kind="manual") == 0)
    restored(lasting_host)


def test_what_is_booked(lasting_host: Daemon, exporter: Exporter) -> None:
    """The number of bookings and of their GPUs, until they are cancelled."""
    words = ("reserve", "--short", "--duration", "1h", "--begin")
    names = [lasting_host.run(*words, begin, "--gpus", "2").stdout.strip() for begin in ("+3h", "+5h")]
    until(lambda: exporter.value("canhazgpu_bookings", state="planned") == 2)
    assert exporter.value("canhazgpu_booked_gpus", state="planned") == 4
    assert exporter.value("canhazgpu_bookings", state="late") == 0
    assert lasting_host.run("cancel", *names).returncode == 0
    until(lambda: exporter.value("canhazgpu_booked_gpus", state="planned") == 0)


def test_it_needs_no_privileges(lasting_host: Daemon, people: list[Person]) -> None:
    """Any user of the host can run it, and sees the same."""
    with exporting(lasting_host, person=people[0]) as own:
        assert own.value("canhazgpu_up") == 1
        assert own.value("canhazgpu_gpus", state="available") == GPUS
        Client(str(lasting_host.folder / "s")).post("/v1/notices/test", {"channel": "wall"})
        until(lambda: own.value("canhazgpu_events_total", type="notice.attempted"))


def test_it_outlives_the_service(host: Daemon) -> None:
    """While the service is away, `canhazgpu_up` is 0 and no GPU is shown; then it goes on counting."""
    until(lambda: "AVAILABLE" in host.status())
    with exporting(host) as own:
        assert host.run("reserve", "--gpus", "1").returncode == 0
        until(lambda: own.value("canhazgpu_reservations_created_total", kind="manual") == 1)
        host.stop()
        until(lambda: own.value("canhazgpu_up") == 0)
        gone = values(own.text())
        assert not [name for name, _ in gone if name.startswith(("canhazgpu_gpu", "canhazgpu_scan"))]
        host.start()
        assert host.run("release").returncode == 0
        until(lambda: host.run("reserve", "--gpus", "1").returncode == 0)
        until(lambda: own.value("canhazgpu_reservations_created_total", kind="manual") == 2)
        assert own.value("canhazgpu_up") == 1
        assert own.value("canhazgpu_events_missed_total") == 0
        assert own.output.count("is away") == own.output.count("answers again") == 1, own.output


def test_it_starts_before_the_service(folder: Path) -> None:
    """A host may start it first."""
    daemon = Daemon(folder)
    with exporting(daemon) as own:
        assert own.value("canhazgpu_up") == 0
        daemon.start()
        try:
            until(lambda: own.value("canhazgpu_up") == 1)
        finally:
            daemon.stop()


def test_a_service_that_hangs_is_away(host: Daemon) -> None:
    """The answer comes before Prometheus gives up after ten seconds."""
    assert host.process
    with exporting(host) as own:
        host.process.send_signal(signal.SIGSTOP)
        try:
            assert own.value("canhazgpu_up") == 0
        finally:
            host.process.send_signal(signal.SIGCONT)
        until(lambda: own.value("canhazgpu_up") == 1)


def test_a_redis_that_hangs_is_a_figure(host: Daemon) -> None:
    """The GPUs are shown as the last scan saw them, and `canhazgpu_redis_up` is 0."""
    host.place(gpu(0, memory_used_mb=45), gpu(1))
    until(lambda: host.status().count("AVAILABLE") == 2)
    pid = host.redis().info("server")["process_id"]
    with exporting(host) as own:
        assert own.value("canhazgpu_redis_up") == 1
        os.kill(pid, signal.SIGSTOP)
        try:
            until(lambda: own.value("canhazgpu_redis_up") == 0)
            until(lambda: own.value("canhazgpu_gpus", state="unknown") == 2)
            assert own.value("canhazgpu_up") == 1
        finally:
            os.kill(pid, signal.SIGCONT)
        until(lambda: own.value("canhazgpu_redis_up") == 1)


def test_clients_that_say_nothing_keep_nobody_out_for_long(exporter: Exporter) -> None:
    """There is a bound on connections. Those above it are closed, and the others time out."""
    host, _, port = exporter.address.partition(":")
    with contextlib.ExitStack() as stack:
        held = [
            stack.enter_context(socket.create_connection((host, int(port)), timeout=PATIENCE))
            for _ in range(MOST + 4)
        ]
        assert held[-1].recv(1) == b"", "the last one was closed"
        assert not select.select([held[0]], [], [], 0)[0], (
            "the first one is open: it has longer to say something"
        )
        until(lambda: _answers(exporter), 30)


def _answers(exporter: Exporter) -> bool:
    try:
        return "canhazgpu_up 1.0" in exporter.text()
    except OSError:
        return False


def test_pages(exporter: Exporter) -> None:
    """There is a start page, no other page, and the metrics are compressed if the client can read that."""
    assert b'href="/metrics"' in asked(exporter, "/")[2]
    assert asked(exporter, "/other")[0] == 404
    status, headers, body = asked(exporter, "/metrics", {"Accept-Encoding": "gzip"})
    assert (status, headers["Content-Encoding"]) == (200, "gzip")
    assert b"canhazgpu_up 1.0" in gzip.decompress(body)


def asked(exporter: Exporter, path: str, headers: Mapping[str, str] = {}) -> tuple[int, Message, bytes]:
    """Return status, headers and body."""
    link = HTTPConnection(exporter.address, timeout=PATIENCE)
    try:
        link.request("GET", path, headers=dict(headers))
        answer = link.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        link.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it(lasting_host: Daemon, number: signal.Signals) -> None:
    """At once and without an error."""
    with exporting(lasting_host) as own:
        own.process.send_signal(number)
        assert own.process.wait(PATIENCE) == 0
        assert own.output.count("\n") == 1, own.output


@pytest.mark.parametrize(
    ("words", "setting", "code", "said"),
    [
        (("--listen", "nonsense"), "", 2, "--listen: expected an address and a port such as 127.0.0.1:9836"),
        ((), 'listen = "x"', 2, "{folder}/config.toml: exporter.listen: expected an address and a port"),
        (("--listen", "192.0.2.1:9836"), "", 1, "cannot listen on 192.0.2.1:9836: Cannot assign requested"),
        (("--listen", "a..b:9836"), "", 1, "cannot listen on a..b:9836: this cannot be the name of a host"),
    ],
)
def test_an_address_that_cannot_be_used(
    folder: Path, words: tuple[str, ...], setting: str, code: int, said: str
) -> None:
    """One line says what is wrong."""
    done = Daemon(folder, f"[exporter]\n{setting}\n").run("exporter", *words)
    assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr
    assert done.stderr.startswith(f"Error: {said.format(folder=folder)}")


def test_a_port_that_is_taken(lasting_host: Daemon, exporter: Exporter) -> None:
    """Two exporters do not share a port."""
    done = lasting_host.run("exporter", "--listen", exporter.address)
    assert (done.returncode, done.stderr) == (
        1,
        f"Error: cannot listen on {exporter.address}: Address already in use; choose another address\n",
    )


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """It says how to install it."""
    for name in [name for name in sys.modules if name.startswith("canhazgpu.cli.exporter.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(CommandEnded):
        command.exporter(listen=f"127.0.0.1:{free_port()}")
    assert (
        capsys.readouterr().err == "Error: this needs prometheus-client: pip install 'canhazgpu[exporter]'\n"
    )


def test_a_thread_that_crashes_ends_it(lasting_host: Daemon) -> None:
    """Else its counters would stand still, and nobody would know."""
    program = (
        "from canhazgpu.cli.exporter import event_counts, exporter\n"
        "event_counts.EventCounts.count = lambda counts, event: 1 / 0\n"
        f"exporter.run(('127.0.0.1', {free_port()}), 50)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], env=lasting_host.environment, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        assert "/metrics" in process.stderr.readline()
        lasting_host.run("reserve", "--gpus", "1")
        assert process.wait(PATIENCE) == 1
        assert process.stderr.read().splitlines()[-1] == "ZeroDivisionError: division by zero"
    restored(lasting_host)
