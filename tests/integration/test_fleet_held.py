"""What a host reads of its users' GPUs on other hosts, which may say anything: a real server."""

from typing import Any

import anyio
import msgspec
import pytest
from structlog.testing import capture_logs
from support.eventually import eventually
from support.fleet import fleet_server, mirroring, put, settings_of
from support.fleet_fixtures import server as server  # noqa: PLC0414 - a fixture, as is the next one
from support.fleet_fixtures import url as url  # noqa: PLC0414
from support.redis_lab import Server

from canhazgpu.config.settings import FleetLimits, Limits
from canhazgpu.events.redis_client.fleet_copy import LOST_MS, MOST_GPUS
from canhazgpu.events.redis_client.keys import Keys
from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.api.allowance import Allowances
from canhazgpu.service.fleet.held_elsewhere import HeldElsewhere
from canhazgpu.service.fleet.mirror_reader import USUAL_BYTES

pytestmark = pytest.mark.anyio


async def claim(url: str, host: str, value: Any, age_ms: int = 0) -> None:
    """Let a host say what its users hold: counts, or any bytes."""
    await put(url, host)
    store = Store(url, host)
    if isinstance(value, dict):
        value = msgspec.msgpack.encode({"seen_ms": await store.now_ms() - age_ms, "gpus": value})
    await store.redis.set(store.keys.fleet_held, value)
    await store.close()


async def read(url: str, user: str, *ignored: str) -> dict[str, int]:
    """Return what a host reads of a user on the other hosts, after its first reading."""
    limits = Limits(fleet=FleetLimits(max_gpus_per_user=8, ignore_hosts=list(ignored)))
    settings = msgspec.structs.replace(settings_of("mine", url, 1.0), limits=limits)
    allowances = Allowances(settings)
    found = anyio.Event()
    async with anyio.create_task_group() as tasks:
        await tasks.start(HeldElsewhere(settings, allowances, found.set).run)
        with anyio.fail_after(60):
            await found.wait()
        tasks.cancel_scope.cancel()
    return dict(allowances.elsewhere(user))


async def test_users_are_counted_by_name_and_host(url: str) -> None:
    """Each host counts for itself; the own one is not another."""
    await claim(url, "a", {"ada": 2, "bob": 1})
    await claim(url, "b", {"ada": 3})
    await claim(url, "mine", {"ada": 7})
    await put(url, "silent")
    assert await read(url, "ada") == {"a": 2, "b": 3}
    assert await read(url, "bob") == {"a": 1}
    assert await read(url, "eve") == {}


@pytest.mark.parametrize(
    "value",
    [
        {"ada": 10**6},
        {"ada": MOST_GPUS + 1},
        {"ada": MOST_GPUS, "bob": 1},
        {"ada": -1},
        {"ada": 1.5},
        {f"user{number}": 0 for number in range(MOST_GPUS + 1)},
        b"not MessagePack",
        b"x" * (USUAL_BYTES + 1),
        b"",
    ],
)
async def test_a_host_cannot_claim_more_than_there_can_be(url: str, value: Any) -> None:
    """A claim of a million GPUs, or of anything that no host can have, counts as none, and hides no other."""
    await claim(url, "a", {"ada": 2})
    await claim(url, "bad", value)
    with capture_logs() as lines:
        assert await read(url, "ada") == {"a": 2}
    assert lines == []


async def test_what_a_host_can_claim_at_most(url: str) -> None:
    """A hostile host can claim as many GPUs as a host can have, unless this host ignores it."""
    await claim(url, "a", {"ada": 2})
    await claim(url, "bad", {"ada": MOST_GPUS})
    assert await read(url, "ada") == {"a": 2, "bad": MOST_GPUS}
    assert await read(url, "ada", "bad") == {"a": 2}


async def test_a_silent_host_is_counted_for_a_while(url: str) -> None:
    """What a host has said counts until it has been silent for a quarter of an hour."""
    await claim(url, "a", {"ada": 2}, LOST_MS - 60_000)
    await claim(url, "b", {"ada": 3}, LOST_MS)
    assert await read(url, "ada") == {"a": 2}


async def test_the_worker_says_what_users_hold(store: Store, url: str, server: Server) -> None:
    """The copy has the GPUs of live reservations by user, and follows them."""
    records = {"r1": ("ada", [0, 1]), "r2": ("ada", [2]), "r3": ("bob", [3])}
    for name, (user, gpus) in records.items():
        text = msgspec.json.encode({"id": name, "user": user, "gpus": gpus})
        await store.redis.hset(store.keys.reservations, name, text)
    await store.redis.hset(store.keys.reservations, "bad", "{")
    host = store.keys.host

    async def holds(expected: dict[str, int]) -> bool:
        with server.client() as admin:
            value: Any = admin.get(Keys(host).fleet_held)
        return bool(value) and msgspec.msgpack.decode(value)["gpus"] == expected

    async with mirroring(store, url):
        await eventually(lambda: holds({"ada": 3, "bob": 1}), 60)
        await store.redis.hdel(store.keys.reservations, "r2", "r3")
        await eventually(lambda: holds({"ada": 2}), 60)
        with server.client() as admin:
            admin.flushall()
            admin.client_kill_filter(_type="normal", skipme=True)
        await eventually(lambda: holds({"ada": 2}), 60)


async def test_without_an_answer_only_this_host_counts(tmp_path: Any) -> None:
    """If the fleet's Redis does not answer any more, what was read counts for a while, then nothing."""
    with fleet_server(tmp_path) as server:
        url = f"redis://127.0.0.1:{server.port}"
        await claim(url, "a", {"ada": 2})
        settings = settings_of("mine", url, 0.2)
        allowances = Allowances(settings)
        async with anyio.create_task_group() as tasks:
            with capture_logs() as lines:
                await tasks.start(HeldElsewhere(settings, allowances, lambda: None).run)

                async def reads(expected: dict[str, int]) -> bool:
                    return dict(allowances.elsewhere("ada")) == expected

                await eventually(lambda: reads({"a": 2}), 60)
                server.kill()
                await eventually(lambda: reads({}), 60)
                assert {line["event"] for line in lines} == {"fleet_limit_alone"}
                server.start()
                await claim(url, "a", {"ada": 2})
                await eventually(lambda: reads({"a": 2}), 60)
                assert [line["event"] for line in lines][-1] == "fleet_limit_back"
            tasks.cancel_scope.cancel()
