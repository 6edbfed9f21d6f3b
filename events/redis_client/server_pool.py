"""A pool of connections that all lead to one server, also while a former master still answers."""

import re
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import redis
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

DRIVER: dict[str, Any] = {}
try:
    from redis.driver_info import DriverInfo
except ImportError:  # Older redis-py reads its version once.
    pass
else:  # Newer redis-py would read its package's metadata for each connection.
    DRIVER["driver_info"] = DriverInfo(lib_version=redis.__version__)

ATTEMPTS = 5  # Masters may change again while a connection is opened.


class ServerChanged(RedisError):
    """Another server answers now than the one that the command was meant for. The command was not sent."""


class ServerPool(BlockingConnectionPool):
    """Reopens a connection before it is used if the newest one leads to another server.

    After a failover, the former master may go on for a while. Connections that are still open would write to
    it, beside those that lead to the new one.
    """

    def __init__(self, *, is_current: Callable[[AbstractConnection], bool], **options: Any) -> None:
        """Store how to tell whether a connection leads to the server of the newest one."""
        self._is_current = is_current
        super().__init__(**{**DRIVER, **options})

    async def get_connection(self, *args: Any, **options: Any) -> Any:
        """Return a connection to the current server. Raises ServerChanged if `only_on` does not hold."""
        pool: Any = super()
        connection: Any = await pool.get_connection(*args, **options)
        try:
            for _ in range(ATTEMPTS):
                if self._is_current(connection):
                    break
                await connection.disconnect()
                await connection.connect()
            else:
                raise RedisConnectionError("the master keeps changing")
            wanted = only_on.get()
            if wanted is not None and not wanted():
                raise ServerChanged("the master is another server now")
        except BaseException:
            await self.release(connection)
            raise
        return connection


# Whether the server is still the one that the commands of this task are meant for.
only_on: ContextVar[Callable[[], bool] | None] = ContextVar("only_on", default=None)


async def run_id_of(connection: AbstractConnection) -> str | None:
    """Return the run id of a server, or None if this user is not allowed to read it."""
    await connection.send_command("INFO", "server")
    try:
        found = re.search(rb"run_id:(\w+)", await connection.read_response(disable_decoding=True))
    except ResponseError:
        return None
    return found[1].decode() if found else None
