"""A response that was written after its peer had left does not count as delivered."""

import asyncio
import socket
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from canhazgpu.service.api.server import PeerProtocol

REQUEST = b"GET /v1/check HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Transport(asyncio.Transport):
    """The service's end of a connection; what is written to it is lost."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return the socket."""
        return self.ours if name == "socket" else default

    def __init__(self) -> None:
        super().__init__()
        self.ours, self.theirs = socket.socketpair()

    def write(self, data: Any) -> None:
        """Lose data, as a transport does that is about to close."""

    def is_closing(self) -> bool:
        """Tell nothing."""
        return False

    def close(self) -> None:
        """Close both ends."""
        self.ours.close()
        self.theirs.close()


@pytest.mark.anyio
@pytest.mark.parametrize("leaves_first", [False, True])
async def test_who_leaves_before_the_response_does_not_get_it(*, leaves_first: bool) -> None:
    """The end of the peer and the end of the response can come in one turn of the event loop."""
    delivered: list[bool] = []
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        del receive
        scope["canhazgpu.on_delivered"](delivered.append)
        asked.set()
        await go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"{}"})

    config = uvicorn.Config(application, http=PeerProtocol, lifespan="off", log_config=None)
    config.load()
    protocol = PeerProtocol(config, ServerState(), {})
    transport = Transport()
    protocol.connection_made(transport)
    protocol.data_received(REQUEST)
    await asyncio.wait_for(asked.wait(), 60)
    if leaves_first:
        protocol.eof_received()
    go_on.set()
    while not protocol.cycle.response_complete:  # noqa: ASYNC110 - it is no event
        await asyncio.sleep(0)
    if not leaves_first:
        protocol.eof_received()
    protocol.connection_lost(None)
    assert delivered == [not leaves_first]
    transport.close()
    await asyncio.sleep(0)
