"""HTTP over the Unix socket. Connections know their peer, and are limited in number, size and time."""

import asyncio
import contextlib
import socket
import time
from collections import Counter
from collections.abc import Callable, Generator
from typing import Any, ClassVar

import anyio
import structlog
import uvicorn
from anyio.abc import TaskStatus
from uvicorn.protocols.http.h11_impl import H11Protocol

from canhazgpu.service.api.socket_file import BACKLOG, SocketFile
from canhazgpu.service.identity.ordinary_users import OrdinaryUsers
from canhazgpu.service.identity.peer import Peer, complete_peer, peer_of, process_of
from canhazgpu.service.identity.user_names import Users
from canhazgpu.service.pacing import at_most_every

LONGEST_HEAD = 65536
HEAD_TIME = 5.0  # Seconds for a client to send its first request.
IDLE_TIME = 15
DRAIN_TIME = 5
LOOK_AGAIN = 2.0  # Seconds between checks of the socket file.
EVENTS = "/v1/events"
MOST_OF_ONE_USER = 128
NOT_ACCEPTED = "socket.accept() out of system resource"  # asyncio's words, as often as it may try in a round,
SAY_AGAIN = 60.0  # with a traceback each; they are said once in so many seconds.

DeliveryCallback = Callable[[bool], None]


class PeerProtocol(H11Protocol):
    """One connection. It is closed if its user has too many, or sends nothing."""

    open_by_uid: ClassVar[Counter[int]] = Counter()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Identify the peer."""
        super().connection_made(transport)
        self._peer: Peer | None = None
        self._callback: DeliveryCallback | None = None
        self._over = self._left_early = False
        try:
            self._peer = peer_of(transport.get_extra_info("socket"))
        except OSError:
            transport.abort()
            return
        self.open_by_uid[self._peer.uid] += 1
        if self.open_by_uid[self._peer.uid] > MOST_OF_ONE_USER and self._peer.uid != 0:
            transport.abort()
            return
        self.app = self._with_peer(self.app, self._peer, transport.get_extra_info("socket"))
        self._head_timer = asyncio.get_running_loop().call_later(HEAD_TIME, self._cut_off)

    def eof_received(self) -> None:
        """Note whether the peer leaves before its response: what is written from here on reaches nobody."""
        self._left_early = self.cycle is not None and not self.cycle.response_complete

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the connection, and report whether its last response was read completely."""
        complete = self.cycle is None or self.cycle.response_complete
        delivered = exc is None and complete and not self._left_early
        super().connection_lost(exc)
        self._over = True
        self._settle(delivered=delivered)
        if self._peer is not None:
            self.open_by_uid[self._peer.uid] -= 1

    def shutdown(self) -> None:
        """Stop serving this connection; a stream of events would not end by itself."""
        super().shutdown()
        if self.cycle is not None and self.cycle.scope["path"] == EVENTS:
            self.transport.close()

    def on_delivered(self, delivered: DeliveryCallback) -> None:
        """Call `delivered` once: with True if the peer continues or closes normally, else with False."""
        self._callback = delivered
        if self._over:
            self._settle(delivered=False)

    def _settle(self, *, delivered: bool) -> None:
        action, self._callback = self._callback, None
        if action:
            action(delivered)

    def _cut_off(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.abort()

    def _with_peer(self, app: Any, peer: Peer, connection: socket.socket) -> Any:
        def process() -> int | None:
            return process_of(connection, peer)

        async def application(scope: Any, receive: Any, send: Any) -> None:
            self._settle(delivered=True)
            caller = {
                "canhazgpu.peer": peer,
                "canhazgpu.process": process,
                "canhazgpu.on_delivered": self.on_delivered,
            }
            await app({**scope, **caller}, receive, send)

        return application


class _Server(uvicorn.Server):
    """A uvicorn server that leaves signals to the daemon and does not wake up ten times per second."""

    def __init__(self, config: uvicorn.Config) -> None:
        """Store the parameters; nothing is served yet."""
        super().__init__(config)
        self.stop = anyio.Event()

    def accept_no_more(self) -> None:
        """Close the listener; its connections continue."""
        for server in self.servers:
            server.close()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Handle no signals."""
        yield

    async def main_loop(self) -> None:
        """Wait for the request to stop."""
        await self.stop.wait()


class _LoopErrorHandler:
    """Logs errors of asyncio; while no connection can be accepted there are hundreds per second."""

    def __init__(self) -> None:
        self._said = -SAY_AGAIN

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if context["message"] != NOT_ACCEPTED:
            loop.default_exception_handler(context)
        elif time.monotonic() - self._said >= SAY_AGAIN:
            self._said = time.monotonic()
            reason = str(context.get("exception"))
            structlog.get_logger().error(
                "connections_not_accepted", reason=reason, remedy="raise LimitNOFILE"
            )


def _with_peer_names(app: Any, users: Users) -> Any:
    persons = OrdinaryUsers(users)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        peer = await complete_peer(scope["canhazgpu.peer"], users, persons)
        await app({**scope, "canhazgpu.peer": peer}, receive, send)

    return application


async def serve_http(
    app: Any,
    socket_file: SocketFile,
    users: Users,
    checks: list[Callable[[], None]],
    *,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` on a bound socket until cancelled; then give requests DRAIN_TIME seconds to finish.

    `users` resolves the names of callers. The check that is added to `checks` creates the socket file again
    if it was deleted. It gets a new listener then, and connections of the old one continue.
    """
    application = _with_peer_names(app, users)
    servers: list[_Server] = []
    socket_file.listener.listen(BACKLOG)
    asyncio.get_running_loop().set_exception_handler(_LoopErrorHandler())
    async with anyio.create_task_group() as tasks:

        def serve(listener: socket.socket) -> None:
            for server in servers[:-1]:
                server.accept_no_more()
            servers.append(_Server(_configured(application)))
            tasks.start_soon(_serve_shielded, servers[-1], listener)

        def check() -> None:
            listener = socket_file.renewed()
            if listener is not None:
                serve(listener)

        serve(socket_file.listener)
        task_status.started()
        paced = at_most_every(LOOK_AGAIN, check)
        checks.append(paced)
        try:
            await anyio.sleep_forever()
        finally:
            checks.remove(paced)
            for server in servers:
                server.should_exit = True
                server.stop.set()


def _configured(app: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=PeerProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=IDLE_TIME,
        timeout_graceful_shutdown=DRAIN_TIME,
        backlog=BACKLOG,
        h11_max_incomplete_event_size=LONGEST_HEAD,
    )


async def _serve_shielded(server: _Server, listener: socket.socket) -> None:
    with anyio.CancelScope(shield=True):
        await server.serve(sockets=[listener])
