"""What the daemon needs before it can start: its state directory, its identity, its socket and its group.

If one of them cannot be had, the error says why and what to do. Nothing is started here.
"""

import errno
import grp
from pathlib import Path

from canhazgpu.config.settings import Settings
from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.api.socket_file import SocketFile
from canhazgpu.service.lock import FOLDER_MODE, AlreadyRunning, Lock
from canhazgpu.service.storage.machine_id import this_machine
from canhazgpu.service.storage.state_owner import StateOwner

END_IT = "stop it first, or set another socket and state_dir"


class ServeFailed(Exception):
    """The daemon cannot start; the message says why and what to do."""


def locked_state_dir(state_dir: Path) -> Lock:
    """Make the state directory and lock it. Raises ServeFailed."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=FOLDER_MODE)
        return Lock(state_dir)
    except AlreadyRunning as running:
        raise ServeFailed(f"{running}; {END_IT}") from None
    except OSError as error:
        raise ServeFailed(
            f"{state_dir}: {error.strerror}: run as root, or set state_dir to a directory of your own"
        ) from error


def state_owner(settings: Settings, store: Store) -> StateOwner:
    """Return what claims the state for this machine. Raises ServeFailed."""
    try:
        machine = this_machine(Path(settings.state_dir))
    except OSError as error:
        raise ServeFailed(f"state_dir: the machine id cannot be stored there: {error.strerror}") from error
    return StateOwner(store, machine, settings.gpus.scan_interval, alone=not settings.redis.url)


def bound_socket(path: Path) -> SocketFile:
    """Bind the socket; it does not listen yet. Raises ServeFailed."""
    try:
        return SocketFile(path)
    except AlreadyRunning as running:
        raise ServeFailed(f"{running}; {END_IT}") from None
    except OSError as error:
        full = error.errno == errno.ENOSPC
        remedy = f"make room in {path.parent}" if full else "run as root, or set socket to a path of your own"
        raise ServeFailed(f"socket: {path} cannot be bound: {error.strerror or error}: {remedy}") from error


def admin_group(name: str) -> int | None:
    """Return the id of the group of administrators, or None for an empty name. Raises ServeFailed."""
    if not name:
        return None
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise ServeFailed(f"admin_group: there is no group {name} on this host") from None
