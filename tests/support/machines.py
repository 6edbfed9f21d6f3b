"""Several machines with services that share one Redis: each has a machine id and a boot of its own."""

import secrets
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from support.daemon import COMMAND, Daemon, gpu
from support.forks import mounted

BOOT = "/proc/sys/kernel/random/boot_id"


class Host(Daemon):
    """A service in a mount namespace where the machine's id and its boot's are what the test says."""

    def __init__(self, folder: Path, url: str, host: str, machine: str, boot: str, more: str = "") -> None:
        """Four idle GPUs; the Redis at `url`, empty for one of its own."""
        folder.mkdir(exist_ok=True)
        super().__init__(folder, more + (f'[redis]\nurl = "{url}"\n' if url else ""), host=host)
        self.place(*(gpu(index) for index in range(4)))
        self.called = host
        self.here = False  # It is this machine itself.
        self.has(machine, boot)

    def has(self, machine: str, boot: str) -> None:
        """Say what machine this is, and in which boot."""
        (self.folder / "machine-id").write_text(machine + "\n")
        (self.folder / "boot-id").write_text(boot + "\n")

    def look_longer(self) -> None:
        """Give another service more time to show that it lives; this one scans as rarely."""
        config = self.folder / "config.toml"
        config.write_text(config.read_text().replace('scan_interval = "200ms"', 'scan_interval = "5s"'))

    def call(self, host: str) -> None:
        """Give the host another name; it counts from the next start on."""
        config = self.folder / "config.toml"
        config.write_text(config.read_text().replace(f'host = "{self.called}"', f'host = "{host}"', 1))
        self.called = host

    @property
    def serve(self) -> list[str]:
        """Start it so that it sees these ids; root in another namespace is no administrator to it."""
        if self.here:
            return super().serve
        ids = [(f"{self.folder}/machine-id", "/etc/machine-id"), (f"{self.folder}/boot-id", BOOT)]
        return [*mounted(ids), *COMMAND]

    def refused(self) -> str:
        """Return what it says when it does not start."""
        if self.process is None:
            self.start(wait=False)
        assert self.process is not None
        assert self.process.wait(60) == 1, self.log.read_text()
        self.process = None
        return self.said[-1]

    @property
    def said(self) -> list[str]:
        """The lines of its log."""
        return self.log.read_text().splitlines()

    def health(self) -> Any:
        """Return what `doctor` says of the service."""
        return self.run("doctor").stdout


Make = Callable[..., Host]


@pytest.fixture
def shared(redis_url: str) -> Iterator[Any]:
    """The Redis that the machines share, empty."""
    with Redis(unix_socket_path=redis_url.removeprefix("unix://")) as client:
        client.flushall()
        yield client


@pytest.fixture
def machine(folder: Path, redis_url: str, shared: Any) -> Iterator[Make]:
    """Return what makes a machine: its name, and its ids unless they are to be new; it is not started."""
    del shared
    made: list[Host] = []

    def make(host: str, ident: str = "", boot: str = "", more: str = "") -> Host:
        one = Host(
            folder / str(len(made)),
            redis_url,
            host,
            ident or secrets.token_hex(16),
            boot or str(uuid.uuid4()),
            more,
        )
        made.append(one)
        return one

    yield make
    for one in made:
        one.stop()
