"""Docker daemons, and a service that asks them about containers."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.daemon import Daemon, gpu, until
from support.dockerd import Dockerd, Serve, dockerd


@pytest.fixture(scope="session")
def docker() -> Iterator[Dockerd]:
    """A Docker daemon of root."""
    with tempfile.TemporaryDirectory(prefix="chg-", dir="/tmp") as name, dockerd(Path(name)) as made:
        Path(name).chmod(0o755)
        yield made


@pytest.fixture
def serve(folder: Path) -> Iterator[Serve]:
    """Start a service on two GPUs, with a Docker daemon to ask and more settings."""
    with ExitStack() as running:

        def start(docker: Dockerd | None = None, more: str = "", admin_group: str = "") -> Daemon:
            socket = docker.socket if docker else ""
            daemon = Daemon(folder, f'{more}\n[containers]\ndocker_socket = "{socket}"\n')
            config = folder / "config.toml"
            config.write_text(f'admin_group = "{admin_group}"\n{config.read_text()}')
            running.callback(daemon.stop)
            daemon.start()
            daemon.place(gpu(0), gpu(1))
            until(lambda: "GPU 1: AVAILABLE" in daemon.status())
            return daemon

        yield start
