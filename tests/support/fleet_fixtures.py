"""The Redis of a fleet, for the tests of a module."""

from collections.abc import AsyncIterator, Iterator

import pytest
from support.fleet import fleet_server
from support.redis_lab import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The fleet's Redis."""
    with fleet_server(tmp_path_factory.mktemp("fleet")) as made:
        yield made


@pytest.fixture
async def url(server: Server) -> AsyncIterator[str]:
    """Its address; it is empty before and after."""
    with server.client() as admin:
        admin.flushall()
        yield f"redis://127.0.0.1:{server.port}"
        admin.flushall()
