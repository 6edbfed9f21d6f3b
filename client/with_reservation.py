"""Reservations for programs: `with reserve(gpus=2) as r:`, `async with reserve():` and `@reserve()`."""

import functools
import inspect
import os
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, ParamSpec, TypeVar, cast

from canhazgpu.client.connection import Client, Refused, Unreachable
from canhazgpu.client.reservations import Reservation, obtain
from canhazgpu.client.reserve_arguments import checked_wait, request_body

P = ParamSpec("P")
T = TypeVar("T")


class reserve:  # noqa: N801 - it is called like a function
    """Reserve GPUs for a `with` block, an `async with` block or a function, and release them at its end.

    `gpus` is the number of GPUs; `gpu_ids` names them instead, by index, by the beginning of a UUID, or as
    `"0:1"`, a MIG instance. `mig` asks for MIG instances instead: `"1g.10gb"`, or `"1g.10gb:2"` for two.
    `wait` is True (wait as long as necessary), False (do not wait), or a maximum such as `"30m"`. `duration`
    (`"4h"`) limits the reservation in any case. `vendor` is `"nvidia"` or `"amd"`. Within the block,
    CUDA_VISIBLE_DEVICES and related variables are set in this process; a library that has read them before
    does not notice. As a decorator, it reserves for each call. Whoever cancels an `async with` that waits
    takes the request out of the queue. Raises Refused, Unreachable and BadSettings, and TypeError or
    ValueError for an invalid argument.
    """

    def __init__(  # noqa: PLR0913 - each says one thing about the reservation
        self,
        gpus: int = 1,
        *,
        gpu_ids: Sequence[int | str] | None = None,
        duration: str | None = None,
        wait: bool | str = True,
        note: str | None = None,
        vendor: str | None = None,
        mig: str | None = None,
        client: Client | None = None,
    ) -> None:
        """Store the request; nothing is reserved yet."""
        self._body = request_body(gpus, gpu_ids, duration, note, vendor, mig)
        self._wait, self._client = checked_wait(wait), client
        self._held: list[Reservation] = []
        more = {"gpu_ids": gpu_ids, "duration": duration, "wait": wait, "note": note, "vendor": vendor}
        more["mig"] = mig
        self._again: Callable[[], reserve] = functools.partial(
            reserve, gpus, **cast("Any", more), client=client
        )

    def __enter__(self) -> Reservation:
        """Reserve, and set the variables."""
        return self._entered(obtain(self._client or Client(), self._body, wait=self._wait))

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Restore the variables, and release."""
        held = self._left()
        try:
            held.release()
        except (Refused, Unreachable) as trouble:
            _report(held, trouble, error)

    async def __aenter__(self) -> Reservation:
        """Reserve without blocking the event loop of asyncio, and set the variables."""
        from canhazgpu.client.awaited import obtained  # noqa: PLC0415 - `asyncio` is slow to import

        return self._entered(await obtained((self._client or Client()).socket, self._body, self._wait))

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Restore the variables, and release."""
        from canhazgpu.client.awaited import done  # noqa: PLC0415 - `asyncio` is slow to import

        held = self._left()
        try:
            await done(held.release)
        except (Refused, Unreachable) as trouble:
            _report(held, trouble, error)

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        """Return the function with a reservation of its own for each call; it may be a coroutine function."""
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError("reserve cannot decorate a generator: use `with reserve()` inside it")
        wrapped: Callable[..., Any] = function

        async def awaited(*args: P.args, **kwargs: P.kwargs) -> Any:
            async with self._again():
                return await wrapped(*args, **kwargs)

        def called(*args: P.args, **kwargs: P.kwargs) -> Any:
            with self._again():
                return wrapped(*args, **kwargs)

        chosen = awaited if inspect.iscoroutinefunction(function) else called
        return cast("Callable[P, T]", functools.wraps(function)(chosen))

    def _entered(self, held: Reservation) -> Reservation:
        self._held.append(held)
        _VARIABLES.add(held)
        return held

    def _left(self) -> Reservation:
        held = self._held.pop()
        _VARIABLES.remove(held)
        return held


def _report(held: Reservation, trouble: Exception, error: BaseException | None) -> None:
    """Add to the error of the block that its GPUs could not be released; without one, raise that."""
    if error is None:
        raise trouble
    error.add_note(f"GPUs {held.gpus} are still reserved: {trouble}")


class _Variables:
    """The variables of this process: those of the newest reservation that lasts, or what was there before.

    Blocks may overlap, in threads and tasks, and end in any order.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._before: dict[str, str | None] = {}
        self._lasting: list[Reservation] = []

    def add(self, held: Reservation) -> None:
        with self._lock:
            if not self._lasting:
                self._before = {name: os.environ.get(name) for name in held.environment}
            self._lasting.append(held)
            os.environ.update(held.environment)

    def remove(self, held: Reservation) -> None:
        with self._lock:
            self._lasting.remove(held)
            if self._lasting:
                os.environ.update(self._lasting[-1].environment)
                return
            for name, value in self._before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


_VARIABLES = _Variables()
