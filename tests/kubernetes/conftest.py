"""A service on four GPUs with a kubelet beside it, and the plugin between them."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import Daemon, until
from support.kubelet import GPUS, SETTINGS, Node, cards


@pytest.fixture(scope="module")
def service() -> Iterator[Daemon]:
    """The service, for all tests of a module."""
    with tempfile.TemporaryDirectory(prefix="chg-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        daemon = Daemon(Path(name), SETTINGS.format(folder=name))
        daemon.place(*cards())
        daemon.start()
        until(lambda: daemon.status().count("AVAILABLE") == GPUS)
        yield daemon
        daemon.stop()


@pytest.fixture
def node(service: Daemon) -> Iterator[Node]:
    """A node of a cluster; nothing is reserved in the end."""
    node = Node(service)
    try:
        node.start()
        yield node
    finally:
        node.close()
    if service.process is None:  # The test failed.
        service.start()
    service.run("admin", "release", "--all")
    service.place(*cards())
    until(lambda: service.status().count("AVAILABLE") == GPUS)
