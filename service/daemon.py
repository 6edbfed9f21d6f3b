"""The daemon: opens its resources, starts its loops in order with the socket last, and shuts them down.

Of its two nested task groups, the outer one is for signals and Redis, which must outlive the work.
"""

from collections.abc import Callable, Coroutine, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import structlog
from anyio.abc import TaskGroup

from canhazgpu.config.settings import Settings
from canhazgpu.events.outbox import notifier
from canhazgpu.events.redis_client.store import Store
from canhazgpu.events.reservations import Record
from canhazgpu.service.api.allowance import Allowances
from canhazgpu.service.api.server import serve_http
from canhazgpu.service.bookings.bookings import open_bookings
from canhazgpu.service.enforcement.switch import connect, open_enforcement
from canhazgpu.service.gpus.scanner import Scanner
from canhazgpu.service.identity.attribution import Attributor
from canhazgpu.service.identity.container_hints import Hints
from canhazgpu.service.identity.user_names import Users
from canhazgpu.service.limitations import log_limitations
from canhazgpu.service.lock import keep_locked
from canhazgpu.service.pacing import Pace
from canhazgpu.service.prerequisites import (
    ServeFailed,
    admin_group,
    bound_socket,
    locked_state_dir,
    state_owner,
)
from canhazgpu.service.providers.provider import ProviderFailed
from canhazgpu.service.providers.registry import open_provider
from canhazgpu.service.recovery.reconciliation import Reconciler
from canhazgpu.service.redis_server.embedded import EmbeddedRedis
from canhazgpu.service.redis_server.halt_watch import HaltWatch
from canhazgpu.service.redis_server.outage import Outage
from canhazgpu.service.redis_server.server_program import EmbeddedFailed
from canhazgpu.service.report.summing import Summing
from canhazgpu.service.reservations.allocator import Allocator
from canhazgpu.service.reservations.handover import Handover
from canhazgpu.service.reservations.lifetime import Lifetime
from canhazgpu.service.reservations.user_renames import UserRenames
from canhazgpu.service.routes.admin import AdminRoutes
from canhazgpu.service.routes.app import Api
from canhazgpu.service.routes.last_known import LastKnown
from canhazgpu.service.routes.lists import list_routes
from canhazgpu.service.routes.metrics import MetricsRoutes
from canhazgpu.service.routes.reservation_routes.bookings import BookingRoutes
from canhazgpu.service.routes.reservation_routes.jobs import JobRoutes
from canhazgpu.service.routes.reservation_routes.reservations import ReservationRoutes
from canhazgpu.service.routes.silences import SilenceRoutes
from canhazgpu.service.silences.lifecycle import Silences
from canhazgpu.service.stop_signals import stop_on_signal
from canhazgpu.service.storage.journal import Journal
from canhazgpu.service.storage.journal_copy import open_journal
from canhazgpu.service.storage.retention import Retention
from canhazgpu.service.storage.state_owner import NameTaken, StateOwner
from canhazgpu.service.systemd import notify, watchdog

Workers = Callable[..., Coroutine[Any, Any, None]]
LOOK_AGAIN = 5.0  # Seconds until a deleted state directory is made again.
MEMBER = "daemon"  # The name of this process's workers in every consumer group.


async def serve(settings: Settings, workers: Workers | None) -> None:
    """Run the daemon until SIGTERM or SIGINT; `workers` runs in it unless None.

    Raises ServeFailed when it cannot start.
    """
    async with AsyncExitStack() as resources:
        lock = locked_state_dir(Path(settings.state_dir))
        resources.callback(lock.release)
        reason: str | None = None
        try:
            async with anyio.create_task_group() as support:
                pace = Pace(LOOK_AGAIN)
                support.start_soon(keep_locked, lock, pace.pause)
                try:
                    await _work(settings, workers, support, resources, pace)
                finally:
                    notify("STOPPING=1")
                support.cancel_scope.cancel()
        except* (EmbeddedFailed, NameTaken, ProviderFailed, ServeFailed) as failed:
            reason = str(_first(failed))
        if reason is not None:  # Raised in the clause, it would be in a group before Python 3.11.4.
            raise ServeFailed(reason)


async def _work(
    settings: Settings, workers: Workers | None, support: Any, resources: AsyncExitStack, pace: Pace
) -> None:
    journal = open_journal(settings.state_dir, settings.socket)
    embedded = (
        None
        if settings.redis.url
        else EmbeddedRedis(Path(settings.state_dir), journal.restorable, pace.pause)
    )
    store, halts = await _store(settings, embedded, support)
    resources.push_async_callback(store.close)
    identity = state_owner(settings, store)
    provider = open_provider(settings)
    resources.push_async_callback(provider.aclose)
    users = Users()
    attributor = Attributor(users=users, hints=Hints(settings.containers.docker_socket))
    scanner = Scanner(settings, store, provider, attributor, [pace.check])
    allocator = Allocator(settings, store)
    scanner.granted = allocator.wake
    liveness = Lifetime(
        store,
        allocator,
        scanner,
        notifier(store),
        attributor.persons,
        grace=settings.run.grace,
        warning=settings.notices.expiry_warning,
    )
    attributor.runs = liveness.runs
    resources.callback(journal.close)
    bookings = open_bookings(store, allocator, scanner, liveness, settings.bookings.remind)
    reconciler = _reconciler(store, journal, scanner, allocator, liveness, look=bookings.look)
    reconciler.hold = identity.hold
    group = admin_group(settings.admin_group)
    enforcement = open_enforcement(settings, users, group)
    if enforcement:
        connect(enforcement, reconciler, scanner, journal)
    allowances = Allowances(settings)
    scanner.follow_names = UserRenames(
        settings, store, users, allowances, lambda: reconciler.journal_state
    ).follow
    last_known = LastKnown(store, scanner, reconciler)
    socket_file = bound_socket(Path(settings.socket))
    resources.callback(socket_file.remove)
    handover = Handover(store, allocator, liveness, scanner)
    reservations = ReservationRoutes(
        settings, store, scanner, allocator, liveness, handover, users, last_known, group, allowances
    )
    silences, retention, summing = Silences(store), Retention(settings, store), Summing(settings, store)
    api = Api(
        settings,
        store,
        scanner,
        [
            *reservations.routes(),
            *JobRoutes(scanner, allocator, users, last_known, reservations).routes(),
            *BookingRoutes(settings, scanner, bookings, users, last_known, group, allowances).routes(),
            *AdminRoutes(scanner, allocator, group, users).routes(),
            *list_routes(settings, store, scanner, group, users, last_known),
            *SilenceRoutes(settings, store, scanner, silences, group, last_known).routes(),
            *MetricsRoutes(settings, store, scanner, reconciler, retention, last_known).routes(),
        ],
        group,
        reconciler,
        retention,
        last_known,
        embedded,
        identity.machine.id,
    ).application()
    async with anyio.create_task_group() as work:

        def stop() -> None:
            allocator.close()
            work.cancel_scope.cancel()

        support.start_soon(stop_on_signal, stop)
        await log_limitations(settings, store)
        await work.start(identity.run)
        if workers is not None:
            await _start_workers(work, identity, workers, settings, store)
        work.start_soon(watchdog, scanner)
        if enforcement:
            await work.start(enforcement.run)
        await _count_other_hosts(work, settings, allowances, allocator)
        for loop in (liveness, bookings, reconciler, handover, silences, retention, summing, halts):
            await work.start(loop.run)
        await work.start(serve_http, halts.watched(api), socket_file, users, scanner.checks)
        await work.start(scanner.run)
        await work.start(last_known.run)
        notify("READY=1")
        structlog.get_logger().info("serving", socket=settings.socket, provider=provider.name)


async def _count_other_hosts(
    work: TaskGroup, settings: Settings, allowances: Allowances, allocator: Allocator
) -> None:
    """If limits count other hosts, start to read what those say."""
    if allowances.count_other_hosts:
        from canhazgpu.service.fleet.held_elsewhere import HeldElsewhere  # noqa: PLC0415 - few hosts need it

        await work.start(HeldElsewhere(settings, allowances, allocator.wake).run)


async def _store(settings: Settings, embedded: EmbeddedRedis | None, support: Any) -> tuple[Store, HaltWatch]:
    """Return the store, with the embedded Redis or the configured one, and what watches its process."""
    unreadable = settings.redis.endpoint().unreadable()
    if unreadable:
        raise ServeFailed(unreadable)
    own = await support.start(embedded.run) if embedded else ""
    store = Store(settings.redis.endpoint(own), settings.host)
    outage = Outage(own or settings.redis.url, embedded)
    store.explain = outage.explain
    return store, HaltWatch(store, outage)


async def _start_workers(
    work: TaskGroup, identity: StateOwner, workers: Workers, settings: Settings, store: Store
) -> None:
    """Start the workers; if Redis is down, as soon as the state belongs to this service."""
    if identity.claimed.is_set():
        await work.start(workers, settings, store, MEMBER)
    else:
        work.start_soon(_when_claimed, identity, workers, settings, store)


async def _when_claimed(identity: StateOwner, workers: Workers, settings: Settings, store: Store) -> None:
    await identity.claimed.wait()
    await workers(settings, store, MEMBER)


def _reconciler(  # noqa: PLR0913 - the parts that change reservations
    store: Store,
    journal: Journal,
    scanner: Scanner,
    allocator: Allocator,
    liveness: Lifetime,
    *,
    look: Callable[[], None],
) -> Reconciler:
    """Return the reconciler, connected to the parts that change reservations and bookings."""
    reconciler = Reconciler(store, journal)
    allocator.begin = reconciler.begin
    allocator.note = scanner.note = reconciler.note

    def restored(records: Iterable[Record]) -> None:
        scanner.forget_cards()
        for record in records:
            liveness.resume(record)
        liveness.expiry_changed()
        look()
        allocator.wake()

    reconciler.restored = restored
    scanner.checks.append(reconciler.check)
    return reconciler


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
