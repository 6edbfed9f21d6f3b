"""The module `pbs` of OpenPBS, as its documentation describes it for hooks of pbs_mom, for one event.

The variable PBS_EVENT names a JSON file with the event. What the hook decides and logs is written beside it.
Like the real resources, these have keys and items, but no `get`.
"""

import json
import os
from pathlib import Path
from typing import Any, NoReturn

EXECJOB_BEGIN, EXECJOB_END, EXECJOB_ABORT = 0x80, 0x1000, 0x400000
EXECHOST_STARTUP, EXECHOST_PERIODIC = 0x20000, 0x4000
LOG_WARNING = 4
_TYPES = {
    "execjob_begin": EXECJOB_BEGIN,
    "execjob_end": EXECJOB_END,
    "execjob_abort": EXECJOB_ABORT,
    "exechost_startup": EXECHOST_STARTUP,
    "exechost_periodic": EXECHOST_PERIODIC,
    "execjob_launch": 0x8000,
}
_PATH = Path(os.environ["PBS_EVENT"])
_FACTS = json.loads(_PATH.read_text())
_LOG: list[str] = []


class EventIncompatibleError(Exception):
    """The event has no such attribute."""


class _Resources:
    """Resources by name; those that are not set are None."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> Any:
        return self._values.get(name)

    def keys(self) -> list[str]:
        """Return the names of the resources that are set."""
        return list(self._values)


class _Chunk:
    """A part of exec_vnode, as VNODE:ncpus=1:ngpus=2."""

    def __init__(self, text: str) -> None:
        self.vnode_name, *values = text.split(":")
        pairs = dict(value.split("=") for value in values)
        self.chunk_resources = _Resources(
            {name: int(value) if value.isdigit() else value for name, value in pairs.items()}
        )


class _ExecVnode:
    """Where the job runs, as (VNODE:ncpus=1:ngpus=2)+(OTHER:ncpus=1)."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.chunks = [_Chunk(one.strip("()")) for one in text.split("+")]

    def __str__(self) -> str:
        return self._text


class _Job:
    def __init__(self, facts: dict[str, Any]) -> None:
        self.id = facts["id"]
        self.euser, self.egroup = facts["euser"], facts.get("egroup", "users")
        self.Job_Owner, self.Job_Name = f"{facts['euser']}@head.example", "train"
        self.exec_vnode = _ExecVnode(facts["exec_vnode"])


class _Vnode:
    def __init__(self, resources: dict[str, Any]) -> None:
        self.resources_available = _Resources(resources)


class _Event:
    """The event that the hook runs for."""

    def __init__(self) -> None:
        self.type = _TYPES[_FACTS["event"]]
        if "job" in _FACTS:
            self.job = _Job(_FACTS["job"])
        if "job_list" in _FACTS:
            self.job_list = dict.fromkeys(_FACTS["job_list"])
        self.vnode_list = {name: _Vnode(resources) for name, resources in _FACTS.get("vnodes", {}).items()}

    def __getattr__(self, name: str) -> NoReturn:
        raise EventIncompatibleError(f'"{name}" not found in self._param')

    def accept(self, ecode: int = 0) -> NoReturn:
        """End the hook; the job goes on."""
        _decide(accepted=True, message="")
        raise SystemExit(str(ecode))

    def reject(self, emsg: str = "", ecode: int = 255) -> NoReturn:
        """End the hook; the job goes back to the queue."""
        _decide(accepted=False, message=emsg)
        raise SystemExit(str(ecode))


_EVENT = _Event()


def _decide(*, accepted: bool, message: str) -> None:
    decision = {"accepted": accepted, "message": message, "log": _LOG}
    _PATH.with_suffix(".decision").write_text(json.dumps(decision))


def event() -> _Event:
    """Return the event."""
    return _EVENT


def logmsg(_level: int, message: str) -> None:
    """Write to the log of pbs_mom."""
    _LOG.append(message)


def logjobmsg(job: str, message: str) -> None:
    """Write to the log of pbs_mom about a job."""
    _LOG.append(f"{job};{message}")


def get_local_nodename() -> str:
    """Return the name of this node."""
    return str(_FACTS["node"])


def get_pbs_conf() -> dict[str, str]:
    """Return the settings in pbs.conf."""
    return dict(_FACTS["conf"])
