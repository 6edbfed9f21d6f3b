"""The HTTP server of the exporter: what it writes about requests that fail."""

import http.client
import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from support.eventually import until
from support.ports import free_port

from canhazgpu.cli.exporter.http_server import MetricsServer


class Broken(Collector):
    """A collector that fails, as a mistake of ours would make it."""

    def describe(self) -> tuple[Metric, ...]:
        """Return nothing."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Fail."""
        raise LookupError("nothing of the kind")


@pytest.fixture
def address() -> Iterator[tuple[str, int]]:
    """Where a server whose collector fails listens."""
    registry = CollectorRegistry()
    registry.register(Broken())
    address = ("127.0.0.1", free_port())
    with MetricsServer(address, {"/metrics": registry}) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield address
        server.shutdown()
        thread.join()


def test_a_fault_of_ours_is_written(address: tuple[str, int], capsys: pytest.CaptureFixture[str]) -> None:
    """The client gets no answer, and the log has the traceback."""
    link = http.client.HTTPConnection(*address, timeout=60)
    link.request("GET", "/metrics")
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        link.getresponse()
    link.close()
    written: list[str] = []

    def is_whole() -> bool:
        written.append(capsys.readouterr().err)
        return "LookupError: nothing of the kind" in "".join(written)

    until(is_whole)


def test_a_client_that_goes_is_none(address: tuple[str, int], capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is written about it, and the next one is answered."""
    with socket.create_connection(address) as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # Close with a reset.
        link.sendall(b"GET / HTT")
    page = http.client.HTTPConnection(*address, timeout=60)
    page.request("GET", "/")
    assert page.getresponse().status == 200
    page.close()
    assert capsys.readouterr().err == ""
