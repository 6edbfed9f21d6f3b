"""`client.reserve` as a decorator and with asyncio."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial

import pytest
from support.daemon import Daemon, until

from canhazgpu.client import Client, Refused, reserve

VARIABLE = "CUDA_VISIBLE_DEVICES"
Reserve = Callable[..., reserve]


@pytest.fixture
def free(lasting_host: Daemon, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """A host whose GPUs are all free, and a process that sees none."""
    monkeypatch.setenv(VARIABLE, "before")
    until(lambda: lasting_host.status().count("AVAILABLE") == 4)
    yield lasting_host
    lasting_host.run("admin", "release", "--all")


@pytest.fixture
def ours(free: Daemon) -> Reserve:
    """`reserve` at that host."""
    return partial(reserve, client=Client(f"{free.folder}/s"))


def waiting(host: Daemon) -> int:
    """Return how many requests wait."""
    return len(json.loads(host.run("queue", "--json").stdout))


def held(host: Daemon) -> list[int]:
    """Return the GPUs that are reserved."""
    return [gpu for one in Client(f"{host.folder}/s").get("/v1/reservations") for gpu in one["gpus"]]


def test_each_call_of_a_decorated_function_has_its_own_reservation(free: Daemon, ours: Reserve) -> None:
    """It lasts as long as the call, also if that ends with an error, and nests."""

    @ours(gpu_ids=[1])
    def outer(word: str) -> str:
        assert held(free) == [1]
        return word + inner()

    @ours(gpu_ids=[3])
    def inner() -> str:
        assert os.environ[VARIABLE] == "3"
        if len(seen) == 1:
            raise KeyError
        seen.append(1)
        return "y"

    seen: list[int] = []
    assert (outer.__name__, outer("x"), os.environ[VARIABLE]) == ("outer", "xy", "before")
    with pytest.raises(KeyError):
        outer("x")
    assert (held(free), os.environ[VARIABLE]) == ([], "before")


def test_a_coroutine_function_holds_until_it_has_ended(free: Daemon, ours: Reserve) -> None:
    """Not only until its coroutine is made; the calls of one function may run side by side."""
    both = asyncio.Event()
    seen: list[set[int]] = []

    @ours(gpus=2)
    async def work() -> None:
        seen.append(set(held(free)))
        if len(seen) == 2:
            both.set()
        await both.wait()

    async def main() -> None:
        await asyncio.wait_for(asyncio.gather(work(), work()), 30)

    asyncio.run(main())
    assert seen[1] == {0, 1, 2, 3}
    assert (held(free), os.environ[VARIABLE]) == ([], "before")


def test_the_loop_goes_on_while_a_request_waits(free: Daemon, ours: Reserve) -> None:
    """`async with` blocks nothing: here the same loop releases what it waits for."""

    async def main() -> None:
        first, second = ours(gpu_ids=[2]), ours(gpu_ids=[2])
        await first.__aenter__()
        entering = asyncio.create_task(second.__aenter__())
        await asyncio.to_thread(until, lambda: waiting(free) == 1)
        await first.__aexit__(None, None, None)
        assert (await asyncio.wait_for(entering, 30)).gpus == [2]
        await second.__aexit__(None, None, None)

    asyncio.run(main())
    assert held(free) == []


def test_blocks_that_overlap_end_in_any_order(ours: Reserve) -> None:
    """The variables are those of the newest block that lasts, and at the end what they were before."""
    first, second, third = (ours(gpu_ids=[gpu]) for gpu in (0, 1, 2))
    shown = [os.environ[VARIABLE] for block in (first, second, third) if block.__enter__()]
    for block in (second, third, first):
        block.__exit__(None, None, None)
        shown.append(os.environ[VARIABLE])
    assert shown == ["0", "1", "2", "2", "0", "before"]


def test_whoever_cancels_leaves_the_queue(free: Daemon, ours: Reserve) -> None:
    """When the cancellation arrives, the request is gone, and nothing is granted later."""

    async def main() -> None:
        async with ours(gpus=4):
            task = asyncio.create_task(ours().__aenter__())
            await asyncio.to_thread(until, lambda: waiting(free) == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(until, lambda: waiting(free) == 0)

    asyncio.run(main())
    assert held(free) == []


@pytest.mark.parametrize("granted", [False, True])
@pytest.mark.parametrize("turns", range(1, 5))
def test_a_cancellation_at_any_moment_leaves_nothing_reserved(
    free: Daemon, ours: Reserve, turns: int, *, granted: bool
) -> None:
    """Before the request is answered, and when it is granted while the loop is busy with something else."""

    async def main() -> None:
        block = ours()
        task = asyncio.create_task(block.__aenter__())
        for _ in range(turns):
            await asyncio.sleep(0)
        if granted:
            until(lambda: held(free) != [])  # The loop stands still meanwhile.
        if task.cancel():
            with pytest.raises(asyncio.CancelledError):
                await task
        else:  # It was answered within these turns: the block has begun.
            await block.__aexit__(None, None, None)

    asyncio.run(main())
    until(lambda: held(free) == [])
    assert os.environ[VARIABLE] == "before"


def test_a_refusal_is_an_error_of_the_block(ours: Reserve) -> None:
    """`async with` raises what `with` does."""

    async def main() -> None:
        async with ours(gpus=4), ours(wait=False):
            pytest.fail("a fifth GPU was granted")

    with pytest.raises(Refused, match="Not enough GPUs"):
        asyncio.run(main())


def test_a_generator_is_refused(ours: Reserve) -> None:
    """Its reservation would end before it runs."""

    def generator() -> Iterator[int]:
        yield 1

    async def asynchronous() -> AsyncIterator[int]:
        yield 1

    for function in (generator, asynchronous):
        with pytest.raises(TypeError, match="cannot decorate a generator"):
            ours()(function)
