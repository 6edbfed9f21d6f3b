"""Finds the containers that carry a run's name, because they outlive the command that started them.

Everybody can carry the name. It counts in a container whose user is not proven, and in the holder's own.
"""

from collections.abc import Callable
from pathlib import Path

from canhazgpu.events.linux.processes import EXHAUSTED, Process, begun_since, with_variable
from canhazgpu.events.reservations import Record
from canhazgpu.service.identity.cgroups import container_of
from canhazgpu.service.identity.process_facts import read_facts

RUNC = b"runc:["  # How runc calls a process until it runs the container's program.


def containers_of(
    record: Record, is_user: Callable[[int], bool], proc: Path = Path("/proc")
) -> list[Process]:
    """Return the processes in containers with the run's id in their environment. Blocks.

    `is_user`: whether a uid is one that only users have. Raises OSError if EXHAUSTED.
    """
    carriers = with_variable(b"CANHAZGPU_RESERVATION", record.id.encode())
    return [process for process in carriers if _counts(process, record, is_user, proc)]


def starting_containers(start: int) -> list[Process]:
    """Return the processes that are about to run the program of a container, and began at this tick or later.

    `docker run --detach` returns before that. Until then the environment is the runtime's, or none. Blocks.
    """
    return [process for process in begun_since(start) if _is_runtimes(Path(f"/proc/{process.pid}"))]


def _is_runtimes(folder: Path) -> bool:
    try:
        (folder / "exe").readlink()  # What has ended has none, nor an environment.
        if not (folder / "comm").read_bytes().startswith(RUNC) and (folder / "environ").read_bytes():
            return False
        return container_of((folder / "cgroup").read_text("utf-8", "backslashreplace")) is not None
    except OSError as error:
        if error.errno in EXHAUSTED:
            raise
        return False


def _counts(process: Process, record: Record, is_user: Callable[[int], bool], proc: Path) -> bool:
    try:
        facts = read_facts(proc, f"{proc}/{process.pid}", process.start, "", None)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in EXHAUSTED:
            raise
        return False
    if facts.container is None:
        return False
    owner = facts.namespaces.owner
    return owner is None or owner in {record.uid, record.login_uid} or not is_user(owner)
