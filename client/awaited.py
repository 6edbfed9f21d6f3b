"""Requests of programs on asyncio: each waits in a thread of its own, never in the event loop."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Any, TypeVar

from canhazgpu.client.connection import Client, Refused, Unreachable
from canhazgpu.client.reservations import Reservation, obtain

T = TypeVar("T")


async def obtained(socket: str, body: dict[str, Any], wait: bool | str) -> Reservation:  # noqa: FBT001
    """Return the reservation that is requested by `body`, as `obtain` does.

    If the caller is cancelled, the request leaves the queue, and what was granted meanwhile is released,
    before the cancellation goes on.
    """
    client = Client(socket)
    granted = _started(lambda: obtain(client, body, wait=wait))
    try:
        return await asyncio.shield(granted)
    except asyncio.CancelledError:
        client.abandon()
        await _settled(granted)
        if granted.exception() is None:
            await _settled(released := _started(granted.result().release))
            released.exception()  # If it could not be released, it ends with its duration.
        raise


async def done(work: Callable[[], T]) -> T:
    """Return what a function returns that blocks. It is carried out also if the caller is cancelled."""
    return await asyncio.shield(_started(work))


async def _settled(future: "asyncio.Future[Any]") -> None:
    """Wait for a result, whatever it is, and however often the caller is cancelled."""
    while not future.done():
        with suppress(asyncio.CancelledError, Refused, Unreachable):
            await asyncio.shield(future)


def _started(work: Callable[[], T]) -> "asyncio.Future[T]":
    """Call a function in a thread. The threads of the loop are few, and a request may wait for days."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)  # type: ignore[arg-type] # without an error, there is a result
        else:
            future.set_exception(error)

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - the caller gets it
            failure = error
        with suppress(RuntimeError):  # The loop may have been closed.
            loop.call_soon_threadsafe(settle, result, failure)

    Thread(target=run, name="canhazgpu", daemon=True).start()
    return future
