"""Finds the server that has a host's keys: the master according to Sentinel, or the Cluster node of the slot.

All keys of a host are in one slot, so a host needs only one node of a Cluster. A connection looks up the
server when it is opened, and is closed when the server reports that it is no longer responsible.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from canhazgpu.events.redis_client.endpoint import Address, Endpoint

ASK_TIMEOUT = 1.0  # Seconds a Sentinel or a node has to answer where the master is.
# Errors with which a server says that it does not have these keys, or not at the moment.
_ELSEWHERE = ("READONLY", "MOVED", "ASK ", "CLUSTERDOWN", "TRYAGAIN", "MASTERDOWN")

Locate = Callable[[], Awaitable[Address]]


class _Located:
    """A connection that calls `locate` for the address every time it connects."""

    def __init__(self, *, locate: Locate, **options: Any) -> None:
        self._locate = locate
        super().__init__(**options)

    async def connect(self) -> None:
        if not self.is_connected:  # type: ignore[attr-defined]
            self.host, self.port = await self._locate()
        await super().connect()  # type: ignore[misc]

    async def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*args, **options)  # type: ignore[misc]
        except ResponseError as error:
            if not is_elsewhere(error):
                raise
            await self.disconnect()  # type: ignore[attr-defined]
            raise RedisConnectionError(f"the master is another server now, or none: {error}") from error


class LocatedConnection(_Located, Connection):
    """A connection without TLS."""


class LocatedSSLConnection(_Located, SSLConnection):
    """A connection with TLS."""


def is_elsewhere(error: ResponseError) -> bool:
    """Return whether the error says that another server is responsible. The command was not executed."""
    text = f"{type(error).__name__} {error}".upper()
    return any(word in text for word in _ELSEWHERE) or "MOVEDERROR" in text or "ASKERROR" in text


class Locator:
    """Asks the Sentinels or nodes in turn; one that did not answer is asked last the next time."""

    def __init__(self, endpoint: Endpoint, key: str) -> None:
        """Look for the master of `key`."""
        self._endpoint = endpoint
        self._slot = key_slot(key.encode())
        self._seeds = list(endpoint.seeds)
        self._known: list[Address] = []  # Nodes that a Cluster said it has.

    async def locate(self) -> Address:
        """Return host and port of the master. Raises redis' ConnectionError."""
        why = "none was asked"
        for seed in [*self._seeds, *(one for one in self._known if one not in self._seeds)]:
            try:
                found = await self._ask(seed)
            except (RedisError, OSError) as error:
                found, why = None, f"{seed[0]}:{seed[1]}: {' '.join(str(error).split())}"
            finally:  # Also if nobody waits any more.
                if seed in self._seeds:
                    self._seeds.append(self._seeds.pop(self._seeds.index(seed)))
            if found:
                return found
        what = "Sentinel" if self._endpoint.kind == "sentinel" else "node of the Cluster"
        raise RedisConnectionError(f"no {what} knows where the master is ({why})")

    async def _ask(self, seed: Address) -> Address | None:
        endpoint, by_sentinel = self._endpoint, self._endpoint.kind == "sentinel"
        options = endpoint.sentinel_options() if by_sentinel else endpoint.options()
        client = _client(options, endpoint, seed)
        try:
            return await (self._of_sentinel(client) if by_sentinel else self._of_cluster(client, seed[0]))
        finally:
            await client.aclose()

    async def _of_sentinel(self, client: Redis) -> Address | None:
        answer = await _answer(client, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._endpoint.master)
        if not answer:
            raise RedisConnectionError(f"it does not know the master {self._endpoint.master}")
        return answer[0].decode(), int(answer[1])

    async def _of_cluster(self, client: Redis, host: str) -> Address | None:
        state = await _answer(client, "CLUSTER", "INFO")
        if b"cluster_state:ok" not in state:
            raise RedisConnectionError("it says that the Cluster is down")
        rows = await _answer(client, "CLUSTER", "SLOTS")
        nodes = [_node(node, host) for _, _, *servers in rows for node in servers]
        self._known = list(dict.fromkeys(nodes))
        for first, last, master, *_ in rows:
            if first <= self._slot <= last:
                return _node(master, host)
        raise RedisConnectionError(f"no node has the slot {self._slot}")


async def masters(endpoint: Endpoint) -> list[Address]:
    """Return host and port of each node of a Cluster that has slots. Raises redis' ConnectionError."""
    why = "none was asked"
    for seed in endpoint.seeds:
        client = _client(endpoint.options(), endpoint, seed)
        try:
            rows = await _answer(client, "CLUSTER", "SLOTS")
            return list(dict.fromkeys(_node(master, seed[0]) for _, _, master, *_ in rows))
        except (RedisError, OSError) as error:
            why = f"{seed[0]}:{seed[1]}: {' '.join(str(error).split())}"
        finally:
            await client.aclose()
    raise RedisConnectionError(f"no node of the Cluster answers ({why})")


def _client(options: dict[str, Any], endpoint: Endpoint, address: Address) -> Redis:
    return Redis(
        host=address[0],
        port=address[1],
        ssl=endpoint.is_encrypted,
        protocol=2,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=ASK_TIMEOUT,
        socket_connect_timeout=ASK_TIMEOUT,
        **options,
    )


async def _answer(client: Any, *words: str) -> Any:
    """Return the server's raw answer."""
    return await client.execute_command(*words)


def _node(node: Any, asked: str) -> Address:
    """Return the address of a node; an empty one means the address of the node that was asked."""
    name = (node[0] or b"").decode()
    return (name if name not in ("", "?") else asked), int(node[1])
