"""The host of the simulated month: the real scripts, dispatcher, delivery and mail, on a test's clock.

Time goes from one moment at which something is due to the next. Workers and Redis die and come back.
"""

import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from month.clock import TimedStore
from month.mailbox import Mailbox
from month.people import GOOD, GPUS, USERS, WITHOUT_ADDRESS, Deed
from redis import Redis

from canhazgpu.config.channels import Email, Notify
from canhazgpu.config.notices import Notices, Quiet
from canhazgpu.config.settings import Gpus, Settings, Violations
from canhazgpu.events.gpu import GpuUsage, ProcessUse
from canhazgpu.events.notices import Notice
from canhazgpu.events.silences import Silence
from canhazgpu.events.timestamps import rfc3339
from canhazgpu.notifiers.audit_log.writer import AuditLog
from canhazgpu.notifiers.channels.mail import Mail
from canhazgpu.notifiers.outcome import Outcome
from canhazgpu.service.gpus.observation import observe
from canhazgpu.service.redis_server.server_program import any_server
from canhazgpu.service.reservations.allocator import AllocationRequest, Allocator
from canhazgpu.service.storage.policy import AllocationPolicy
from canhazgpu.workers.audit import LogChannel
from canhazgpu.workers.delivery import DeliveryWorker
from canhazgpu.workers.dispatch.dispatcher import Dispatcher

CONFIRM = 2.0
QUIET = Quiet(hours="22:00-07:00", workdays=["mon", "tue", "wed", "thu", "fri"], timezone="UTC")


class Terminals:
    """The channel `wall` with simulated logins; it records which user got which notice, and when."""

    name = "wall"

    def __init__(self, here: set[str], now_ms: Callable[[], int]) -> None:
        self._here, self._now_ms = here, now_ms
        self.shown: list[tuple[int, str, Notice]] = []

    async def recipients(self, notice: Notice) -> list[str]:
        """Return the user of the notice."""
        return [notice.person] if notice.person else []

    async def deliver(self, notice: Notice, recipients: list[str], first: str | None) -> Sequence[Outcome]:
        """Show a notice if its user is logged in."""
        del first
        outcomes = []
        for person in recipients:
            if person in self._here:
                self.shown.append((self._now_ms(), person, notice))
                outcomes.append(Outcome(f"{person}:pts/1", "delivered"))
            else:
                outcomes.append(Outcome(person, "nobody", "has no terminal"))
        return outcomes


class Host:
    """The product under test, with simulated GPUs, terminals and time."""

    def __init__(self, folder: Path, begin: int, seed: int) -> None:
        self.folder = folder
        self.now_ms = begin
        self.mailbox = Mailbox(seed, lambda: self.now_ms)
        self.here: set[str] = set()
        self.using: dict[tuple[int, str], int] = {}
        self.terminals = Terminals(self.here, lambda: self.now_ms)
        self.lengths: list[int] = []
        self.holding: set[tuple[int, str]] = set()
        self.silences: list[tuple[str, int, int]] = []
        self.pids = 1000
        self.confirm_ms: int | None = None
        self.expiry_ms = 0
        addresses = {name: f"{name}@example.com" for name in USERS if name not in WITHOUT_ADDRESS}
        email = Email(
            enabled=True, port=self.mailbox.port, addresses=addresses, admins=["admins@example.com"]
        )
        self.settings = Settings(
            host="month",
            gpus=Gpus(scan_interval=1000.0),
            violations=Violations(confirm=CONFIRM),
            notices=Notices(quiet=QUIET),
            notify=Notify(email=email),
        )
        self.redis: subprocess.Popen[bytes] | None = None
        self.start_redis()
        self.store = TimedStore(f"unix://{folder}/redis.sock", "month")
        self.allocator = Allocator(self.settings, self.store)
        self.deliveries: list[DeliveryWorker] = []
        self.log = AuditLog(folder / "violations.log")

    def start_redis(self) -> None:
        """Start Redis, or kill and restart it, and wait until it answers."""
        if self.redis:
            self.redis.kill()
            self.redis.wait()
        server = any_server()
        words = ["--port", "0", "--unixsocket", f"{self.folder}/redis.sock", "--dir", str(self.folder)]
        words += [
            "--appendonly",
            "yes",
            "--appendfsync",
            "no",
            "--save",
            "",
        ]  # It is killed, the host is not.
        self.redis = subprocess.Popen([server, *words], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        with Redis(unix_socket_path=f"{self.folder}/redis.sock") as client:
            while time.monotonic() < deadline:
                try:
                    client.ping()
                except Exception:  # noqa: BLE001 - whatever it is, it is not there yet
                    time.sleep(0.01)
                else:
                    return
        raise AssertionError("Redis does not come back")

    async def start_workers(self) -> None:
        """Restart the workers without memory; entries they did not finish are read again."""
        await self.stop_workers()
        self.dispatcher = Dispatcher(self.settings, self.store, "sim")
        channels: list[Any] = [self.terminals, Mail(self.settings), LogChannel(self.log)]
        self.deliveries = [DeliveryWorker(self.store, channel, "sim") for channel in channels]
        for consumer, take in self.dispatcher.consumers:
            await take(await consumer.unfinished())
        for delivery in self.deliveries:
            await delivery.take(await delivery.consumer.unfinished())

    async def stop_workers(self) -> None:
        """Stop the workers."""
        if self.deliveries:
            for consumer, _ in self.dispatcher.consumers:
                await consumer.close()
            for delivery in self.deliveries:
                await delivery.consumer.close()

    async def drop_in_the_act(self) -> None:
        """Let the workers read entries and die before they process them."""
        for consumer, _ in self.dispatcher.consumers:
            await consumer.new(0)
        await self.start_workers()

    async def close(self) -> None:
        """End everything."""
        await self.stop_workers()
        await self.store.close()
        self.mailbox.close()
        self.log.close()
        if self.redis:
            self.redis.kill()
            self.redis.wait()

    async def scan(self) -> None:
        """Scan the GPUs."""
        usages = []
        for index in range(GPUS):
            seen = [(user, pid) for (gpu, user), pid in sorted(self.using.items()) if gpu == index]
            processes = tuple(
                ProcessUse(
                    pid=pid,
                    name="python3",
                    user=user,
                    memory_mb=900,
                    uid=uid_of(user),
                    start=pid,
                    person=user,
                    evidence="uid",
                )
                for user, pid in seen
            )
            usages.append(
                GpuUsage(
                    index=index,
                    uuid=f"GPU-{index}",
                    name="H100",
                    in_use=bool(seen),
                    memory_mb=900 * len(seen),
                    users=tuple(user for user, _ in seen),
                    processes=processes,
                )
            )
        seen_now = await observe(self.store, usages, CONFIRM, 1e7, rules=AllocationPolicy.of(self.settings))
        self.confirm_ms = seen_now.due_ms or None

    async def do(self, deed: Deed) -> None:
        """Perform one action of a user."""
        if deed.what == "start":
            good = deed.user in GOOD
            for gpu in [one for one in deed.gpus if not good or (one, deed.user) in self.holding]:
                self.pids += 1
                self.using[gpu, deed.user] = self.pids
        elif deed.what == "stop":
            for gpu in deed.gpus:
                self.using.pop((gpu, deed.user), None)
                self.holding.discard((gpu, deed.user))
        elif deed.what == "login":
            self.here.add(deed.user)
        elif deed.what == "logout":
            self.here.discard(deed.user)
        elif deed.what == "silence":
            await self.silence(deed)
        elif deed.what == "reserve":
            await self.reserve(deed)
        if deed.what in ("start", "stop"):
            await self.scan()

    async def reserve(self, deed: Deed) -> None:
        """Reserve GPUs; refused if they are in use."""
        await self.scan()
        uid = uid_of(deed.user)
        ask = AllocationRequest(
            kind="manual", user=deed.user, uid=uid, gpus=deed.gpus, duration_ms=deed.length
        )
        reserved = await self.allocator.reserve(ask, f"reserve-{self.now_ms}")
        self.expiry_ms = self.now_ms
        if reserved.reservation:
            self.holding.add((deed.gpus[0], deed.user))

    async def silence(self, deed: Deed) -> None:
        """Silence a user, as the service does."""
        until = self.now_ms + deed.length
        self.silences.append((deed.user, self.now_ms, until))
        one = Silence(
            id=f"s{self.now_ms}",
            by="root",
            by_uid=0,
            since=rfc3339(self.now_ms),
            until=rfc3339(until),
            until_ms=until,
            reason="maintenance",
            user=deed.user,
        )
        await self.store.ask(
            self.store.redis.hset(self.store.keys.silences, one.id, msgspec.json.encode(one).decode())
        )

    async def turn(self) -> None:
        """Process everything that is due now."""
        if self.confirm_ms and self.confirm_ms <= self.now_ms:
            await self.scan()
        if self.expiry_ms and self.expiry_ms <= self.now_ms:
            _, left = await self.allocator.expire()
            self.expiry_ms = self.now_ms + round(left * 1000) + 1 if left is not None else 0
            await self.scan()
        while True:
            due, retries, *lengths = await self._look()
            if due:
                await self.dispatcher.do_due()
            for delivery in self.deliveries if retries else ():
                await delivery.retry_due()
            if lengths != self.lengths:
                self.lengths = lengths
                for consumer, take in self.dispatcher.consumers:
                    await take(await consumer.new(0))
                for delivery in self.deliveries:
                    await delivery.take(await delivery.consumer.new(0))
            elif not (due or retries):
                return

    async def _look(self) -> list[int]:
        """Return whether anything is due or is to be retried, and the lengths of the streams."""
        keys = self.store.keys
        async with self.store.redis.pipeline(transaction=False) as pipe:
            pipe.zcount(keys.due, "-inf", self.now_ms)
            pipe.zcount(keys.retries("email"), "-inf", self.now_ms)
            for stream in (keys.violations, keys.events, keys.deliveries, keys.notices):
                pipe.xlen(stream)
            return list(await pipe.execute())

    async def next_ms(self) -> int | None:
        """Return when the next thing is due, if no user acts."""
        keys, redis = self.store.keys, self.store.redis
        moments: list[int | None] = [self.confirm_ms, self.expiry_ms or None]
        async with redis.pipeline(transaction=False) as pipe:
            for key in (keys.due, keys.retries("email")):
                pipe.zrange(key, 0, 0, withscores=True)
            for rows in await pipe.execute():
                moments += [int(score) for _, score in rows]
        later = [max(moment, self.now_ms + 1) for moment in moments if moment is not None]
        return min(later, default=None)

    async def go_to(self, moment: int) -> None:
        """Set the time to `moment`."""
        self.now_ms = moment
        await self.store.set_clock(moment)


def uid_of(user: str) -> int:
    """Return a user's uid."""
    return 2000 + USERS.index(user)
