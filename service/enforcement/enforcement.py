"""Keeps the device files of the GPUs as the journal says: open to the holder, and to nobody else.

The journal is written before a change is answered; the files follow it in the same step.
"""

import grp
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import anyio
import anyio.to_thread
import structlog
from anyio.abc import TaskStatus

from canhazgpu.config.settings import Settings
from canhazgpu.events.gpu import GpuUsage
from canhazgpu.service.enforcement.access import only_for
from canhazgpu.service.enforcement.device_files import DeviceFiles
from canhazgpu.service.enforcement.former_access import FormerAccess
from canhazgpu.service.enforcement.openings import minors_of, openings
from canhazgpu.service.identity.user_names import Users
from canhazgpu.service.storage.journal import State

PATIENCE = 2.0  # Seconds that a look-up of groups may delay the start.
Allowed = tuple[frozenset[int], frozenset[int]]  # Uids and gids that can open every GPU.


class Enforcement:
    """The device files of this host as long as the service runs.

    When a grant is answered, its holder can open the GPUs. When a release is answered, the user can no
    longer open them. What a user had opened before stays open.
    """

    def __init__(self, settings: Settings, users: Users, admin_group: int | None) -> None:
        """Store the parameters; nothing is changed yet."""
        self._rules, self._users = settings.enforcement, users
        self._names = (*settings.enforcement.users, *settings.violations.exempt_users)
        self._former = FormerAccess(Path(settings.state_dir))
        self._files = DeviceFiles(Path(self._rules.directory), self._former)
        self._minors = dict(self._former.minors)
        self._gids = frozenset(() if admin_group is None else (admin_group,))
        self._allowed: Allowed = (frozenset(), self._gids)
        self._lock = threading.Lock()  # The journal is written in a thread.
        self._stopped = self._suspended = False
        self._wanted = anyio.Event()
        # Return the content of the journal, and the GPUs of the last scan.
        self.journal_state: Callable[[], State | None] = lambda: None
        self.seen: Callable[[], Mapping[int, GpuUsage]] = dict
        self.stale: Callable[[], None] = lambda: None  # Called if the journal lacks GPUs that were seen.
        self._lacking: frozenset[str] = frozenset()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Put right what differs until cancelled. Reports started when it can follow the journal."""
        look_up = threading.Thread(target=self._look_up_groups, daemon=True)  # A directory may hang.
        look_up.start()
        await anyio.to_thread.run_sync(look_up.join, PATIENCE)
        self._always_allowed()
        await self._users.settle()
        self._allowed = self._always_allowed()
        task_status.started()
        try:
            while True:
                await self._wanted.wait()
                self._wanted = anyio.Event()
                await anyio.to_thread.run_sync(self._put_right)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._stop)

    def follow(self, state: State) -> None:
        """Apply the state that was written to the journal, before the change is answered."""
        with self._lock:
            self._apply(state)

    def check(self) -> None:
        """After a scan: have the files put right if one differs, or if other GPUs or users were found."""
        minors, allowed = minors_of(self.seen().values(), self._minors), self._always_allowed()
        changed = (minors, allowed) != (self._minors, self._allowed)
        if changed or self._files.differ() or self._former.is_suspended != self._suspended:
            self._minors, self._allowed = minors, allowed
            self._wanted.set()
        state = self.journal_state()
        if state is not None:
            lacking = frozenset(minors) - {card.uuid for card in state.cards.values()}
            if lacking - self._lacking:
                self.stale()
            self._lacking = lacking

    def _put_right(self) -> None:
        with self._lock:
            state = self.journal_state()
            if state is not None:
                self._apply(state)

    def _apply(self, state: State) -> None:
        if self._stopped:
            return
        before, self._suspended = self._suspended, self._former.is_suspended
        if not self._suspended:
            users, groups = self._allowed
            wanted = {
                minor: only_for(uids | users, groups) for minor, uids in openings(state, self._minors).items()
            }
            self._files.apply(wanted, self._minors)
        elif not before:
            structlog.get_logger().warning("enforcement_suspended", remedy="`canhazgpu enforcement resume`")
            self._restore()

    def _restore(self) -> None:
        for path, error in self._files.restore():
            structlog.get_logger().warning("not_restored", path=path, reason=error.strerror)

    def _always_allowed(self) -> Allowed:
        uids = (self._users.uid(name) for name in self._names)
        return frozenset(uid for uid in uids if uid is not None), self._gids

    def _look_up_groups(self) -> None:
        for name in self._rules.groups:
            try:
                self._gids |= {grp.getgrnam(name).gr_gid}
            except (KeyError, OSError):
                reason = f"enforcement.groups: there is no group {name} on this host"
                structlog.get_logger().warning("limited", reason=reason, remedy="create it, then restart")

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            if self._rules.on_stop == "restore":
                self._restore()
