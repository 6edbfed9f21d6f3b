"""Access to Redis: a bounded pool of connections, and scripts that are called by their hash."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import anyio
import msgspec
import structlog
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    MasterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from canhazgpu.events.redis_client.discovery import (
    LocatedConnection,
    LocatedSSLConnection,
    Locator,
    is_elsewhere,
)
from canhazgpu.events.redis_client.endpoint import Endpoint
from canhazgpu.events.redis_client.fencing import FencedArgument, FencingToken
from canhazgpu.events.redis_client.keys import HOSTS, Keys
from canhazgpu.events.redis_client.reply_timer import ReplyTimer
from canhazgpu.events.redis_client.scripts import Script
from canhazgpu.events.redis_client.server_pool import ServerChanged, ServerPool, only_on, run_id_of

ANSWER_TIMEOUT = 5.0  # Timeout of a command in seconds; after that its outcome is unknown.
TURN_TIMEOUT = 20.0  # Seconds; many callers are served one after the other.
RECOVERIES = 10  # Attempts of a script on data that is lost repeatedly.
TRY_AGAIN = "try again; running commands are not affected, and nothing is released"
SAY_AGAIN = 60.0  # Seconds.
NEVER = 2**53  # A sequence that no data have.
BLOCK_MARGIN = 5.0  # A blocking read answers late when others are served first.
# Also errors of a Redis that is not ready: loading, full, a replica, without its master.
UNREACHABLE = (
    RedisConnectionError,
    RedisTimeoutError,
    BusyLoadingError,
    OutOfMemoryError,
    ReadOnlyError,
    MasterDownError,
    OSError,
)
# Errors without an exception in redis-py, also inside errors of scripts.
_NOT_NOW = re.compile(r"\b(MISCONF|BUSY|NOREPLICAS|OOM|READONLY|MASTERDOWN|BEHIND)\b")
_BEHIND = re.compile(r"\bBEHIND\b")
_CONNECTING = re.compile(r"Error -?\d+ connecting to (\S+) (.+)")


class StoreDown(Exception):
    """Redis does not answer. The outcome of the last command is unknown."""


class Store:
    """The state of one host in Redis.

    Replies are bytes and are decoded by the caller. The client never retries, because only the caller knows
    whether that is safe.
    """

    def __init__(self, where: str | Endpoint, host: str) -> None:
        """Prepare connections to a URL or an endpoint, without opening one."""
        self.endpoint = Endpoint(url=where) if isinstance(where, str) else where
        self.keys = Keys(host)
        self.connected: Callable[[], None] = lambda: None  # Called for each new connection.
        self.recover: Callable[[], Awaitable[None]] | None = None  # Restores what Redis has lost.
        self._server: str | None = None  # The server that the newest connection leads to.
        self._leads_to: WeakKeyDictionary[AbstractConnection, str | None] = WeakKeyDictionary()
        self.redis = self._client(ANSWER_TIMEOUT, connections=16)
        # For keys of all hosts, which another node of a Cluster may have.
        in_cluster = self.endpoint.kind == "cluster"
        self.common = self._client(ANSWER_TIMEOUT, connections=1, key=HOSTS) if in_cluster else self.redis
        self.servers = 0  # The number of servers, or server starts, connected to so far.
        self.compared = 0  # The last of them whose data were compared with the journal.
        self._fencing_token: FencingToken | None = None
        self.owner = ""  # The service that owns the state, as recorded in Redis; empty if unset.
        self.refusal = ""  # Why no script may run yet: the state is not this service's (yet).
        # Explains why Redis does not answer, and what to do.
        self.explain: Callable[[StoreDown], tuple[str, str]] = lambda down: (str(down), TRY_AGAIN)
        self.reply_timer = ReplyTimer()
        self.trouble: StoreDown | None = None  # The last error, valid while Redis is `down`.
        self._probe: asyncio.Future[Exception | None] | None = None  # The attempt of `ready` under way.
        self._said = -SAY_AGAIN  # When it was last logged that Redis is down, on the monotonic clock.

    @property
    def fencing_token(self) -> FencingToken | None:
        """The conditions for scripts; they cannot be met until this server was compared with the journal."""
        if self._fencing_token is None or self.compared == self.servers:
            return self._fencing_token
        return msgspec.structs.replace(self._fencing_token, sequence=NEVER)

    @fencing_token.setter
    def fencing_token(self, fencing_token: FencingToken | None) -> None:
        self._fencing_token = fencing_token

    def _client(self, timeout: float, connections: int, key: str | None = None) -> Redis:
        place, options = self._place(key or self.keys.prefix)
        options |= {
            "protocol": 2,
            "retry": Retry(NoBackoff(), 0),
            "socket_timeout": timeout,
            "socket_connect_timeout": ANSWER_TIMEOUT,
            "redis_connect_func": self._connect if key is None else None,
            "max_connections": connections,
            "timeout": TURN_TIMEOUT,  # Who finds all connections taken waits for one so long.
            "is_current": self._is_current if key is None else lambda _: True,
        }
        if place is None:
            return Redis.from_pool(ServerPool(**options))
        return Redis.from_pool(ServerPool.from_url(place, **options))

    def _place(self, key: str) -> tuple[str | None, dict[str, Any]]:
        """Return the URL of the server, or None if it must be discovered, and the connection options."""
        endpoint = self.endpoint
        if not endpoint.kind:
            return endpoint.plain()
        kind = LocatedSSLConnection if endpoint.is_encrypted else LocatedConnection
        locate = Locator(endpoint, key).locate
        return None, {**endpoint.options(), "connection_class": kind, "locate": locate}

    async def _connect(self, connection: AbstractConnection) -> None:
        await connection.on_connect()
        if self.recover is not None:
            server = await run_id_of(connection)
            if server is None or server != self._server:
                self._server = server
                self.servers += 1
            self._leads_to[connection] = server
        self.connected()

    def _is_current(self, connection: AbstractConnection) -> bool:
        return self.recover is None or self._leads_to.get(connection, "") == self._server

    @contextmanager
    def only_on(self, servers: int) -> Iterator[None]:
        """Send the commands in this block to that server only; raise ServerChanged if another answers now."""
        token = only_on.set(lambda: self.servers == servers)
        try:
            yield
        finally:
            only_on.reset(token)

    @asynccontextmanager
    async def of(self, host: str) -> AsyncIterator[Redis]:
        """Return a client for the keys of another host name, which this host may have had before."""
        if host == self.keys.host or self.endpoint.kind != "cluster":
            yield self.redis
        else:
            async with self._client(ANSWER_TIMEOUT, connections=1, key=Keys(host).prefix) as redis:
                yield redis

    def blocking(self, longest: float) -> Redis:
        """Return a separate client for reads that block up to `longest` seconds. The caller closes it."""
        return self._client(longest + BLOCK_MARGIN, connections=1)

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        """Run `script` once and return its raw reply; load its text if Redis does not have it.

        Raises StoreDown if there is no answer. The script may have run anyway.
        """
        for attempt in range(RECOVERIES):
            if self.refusal:
                raise StoreDown(self.refusal)
            try:
                with self.only_on(self.servers):  # The fencing_token in `args` is about its data.
                    return await self._run(script, keys, args)
            except ServerChanged as error:
                if not (self.recover and attempt < RECOVERIES - 1):
                    raise StoreDown(unreachable(error)) from error
            except ResponseError as error:
                if not (_BEHIND.search(str(error)) and self.recover and attempt < RECOVERIES - 1):
                    raise _down(error) from error
            except UNREACHABLE as error:
                raise StoreDown(unreachable(error)) from error
            await self.recover()
            args = [
                one.rebuild(self.fencing_token) if isinstance(one, FencedArgument) else one for one in args
            ]
        raise AssertionError("the last attempt returns or raises")

    async def repair(self, script: Script, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        """Run a script that restores the promised data, without requiring the fencing token."""
        try:
            return await self._run(script, keys, args)
        except (ResponseError, *UNREACHABLE) as error:
            raise _down(error) from error

    async def _run(self, script: Script, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        with self.reply_timer.expect_reply():
            try:
                return await self.redis.evalsha(script.sha, len(keys), *keys, *args)
            except NoScriptError:
                return await self.redis.eval(script.text, len(keys), *keys, *args)

    def set_fencing_token(self, dataset: str, sequence: int) -> None:
        """Let scripts that allocate GPUs run only on this data set, from this sequence on, for this owner."""
        self.fencing_token = FencingToken(dataset=dataset, sequence=sequence, owner=self.owner)

    async def ask(self, question: Any) -> Any:
        """Await one command and return its answer. Raises StoreDown, also if Redis takes no writes now."""
        try:
            return await question
        except (ResponseError, *UNREACHABLE) as error:
            raise _down(error) from error

    async def now_ms(self) -> int:
        """Return the time of Redis' clock in milliseconds. Raises StoreDown."""
        clock = await self.ask(self.redis.time())
        return int(clock[0]) * 1000 + int(clock[1]) // 1000

    async def ready(self, deadline: float) -> None:
        """Wait until Redis answers; raise StoreDown with the last error after `deadline` seconds.

        An attempt that takes longer goes on, for the next call: it may take longer than any caller waits.
        """
        last: Exception | None = None
        over = time.monotonic() + deadline
        while (left := over - time.monotonic()) > 0:
            probe = self._probe = self._probe or asyncio.ensure_future(self._ping())
            done, _ = await asyncio.wait({probe}, timeout=left)
            if not done:
                break
            self._probe = None if self._probe is probe else self._probe
            last = probe.result()
            if last is None:
                return
            await anyio.sleep(0.02)
        raise StoreDown(unreachable(last) if last else "Redis does not answer")

    async def _ping(self) -> Exception | None:
        try:
            await self.redis.ping()
        except (*UNREACHABLE, RedisError) as error:
            return error
        return None

    @property
    def down(self) -> bool:
        """Whether the last attempt to reach Redis failed."""
        return self._said > -SAY_AGAIN

    def report_down(self, down: StoreDown) -> None:
        """Log that Redis does not answer: immediately, then at most once per minute."""
        self.trouble = down
        now = time.monotonic()
        if now - self._said >= SAY_AGAIN:
            self._said = now
            structlog.get_logger().warning("store_down", reason=str(down))

    def report_up(self) -> None:
        """Log that Redis answers again, if it was down."""
        if self._said > -SAY_AGAIN:
            self._said = -SAY_AGAIN
            structlog.get_logger().info("store_back")

    async def close(self) -> None:
        """Close every connection."""
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.wait({self._probe})
        await self.redis.aclose()
        await self.common.aclose()


def _down(error: Exception) -> Exception:
    """Return StoreDown if a command failed because Redis is not available, else the error itself."""
    # From Redis 7 on the code stands first, and redis-py makes a class of it.
    moved = isinstance(error, ResponseError) and is_elsewhere(error)
    not_now = isinstance(error, UNREACHABLE) or moved or _NOT_NOW.search(str(error))
    return StoreDown(unreachable(error)) if not_now else error


def unreachable(error: Exception) -> str:
    """Return why Redis cannot be reached, on one line and without a password."""
    text = " ".join(str(error).split()) or type(error).__name__
    failed = _CONNECTING.match(text)
    if failed:
        where, why = failed[1].rstrip("."), failed[2].rstrip(".")
        text = {
            "Connection refused": f"nothing is listening on {where}",
            "No such file or directory": f"there is no socket {where}",
        }.get(why, f"{why} ({where})")
    return f"Redis does not answer: {text[:200]}"
