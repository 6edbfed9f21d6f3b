"""Asks the service whether a container may start, and says what happens if the service does not answer."""

from __future__ import annotations

import sys
import syslog
from typing import TYPE_CHECKING, Any

import msgspec

from canhazgpu.cli.oci import configuration
from canhazgpu.client.connection import BadSettings, Client, Refused, Unreachable
from canhazgpu.events.sanitize import LONGEST_WORDS, printable

if TYPE_CHECKING:
    from canhazgpu.cli.oci.configuration import Gpus, Spec

PATH = "/v1/containers/check"
PATIENCE = 5.0  # Seconds for an answer; the runtime's caller waits.
LONGEST = 1000  # Characters of a message.
MOST_NAMES = 64
NOT_READABLE = (400, 413)  # The service's answers if a container asks for too much, or for nonsense.


class NotAllowed(Exception):
    """The container must not start; the message is the line for its user."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The service's answer: `user` is who is proven to have started it; `only` are the GPUs it gets."""

    user: str | None = None
    only: dict[str, Any] | None = None


def ask(spec: Spec, gpus: Gpus, name: str, *, daemon: bool) -> Answer:
    """Return the answer about a container with these GPUs. Raises NotAllowed."""
    question = {
        "id": name[:MOST_NAMES],
        "names": list(gpus.names),
        "devices": list(gpus.devices),
        "every": gpus.every,
        "narrow": gpus.narrow,
        "daemon": daemon,
    }
    if token := configuration.variable(spec, configuration.TOKEN):
        question["token"] = token[:LONGEST_WORDS]  # A longer one proves nothing.
    try:
        found = Client(patience=PATIENCE).post(PATH, question)
    except (Unreachable, Refused, BadSettings) as trouble:
        return _without_answer(name, trouble)
    reason, remedy = found["reason"], found["remedy"]
    if not found["allowed"]:
        raise NotAllowed(_line(f"the container was not started: {reason}; {remedy}"))
    if reason:
        warn(f"container {name[:MOST_NAMES]} starts without a reservation: {reason}")
    return Answer(user=found["user"], only=found["only"])


def _without_answer(name: str, trouble: Exception) -> Answer:
    settings = _settings()
    if settings.mode == "off":
        return Answer()
    own_fault = isinstance(trouble, Refused) and trouble.status in NOT_READABLE
    if settings.mode == "enforce" and (own_fault or settings.unreachable == "refuse"):
        raise NotAllowed(_line(f"the container was not started: {trouble}"))
    warn(f"container {name[:MOST_NAMES]} starts unchecked: {trouble}")
    return Answer()


def _settings() -> Any:
    from canhazgpu.config.integrations.containers import Containers  # noqa: PLC0415 - only in trouble
    from canhazgpu.config.load import ConfigError, load  # noqa: PLC0415 - heavy

    try:
        return load().settings.containers
    except ConfigError:
        return Containers()


def warn(text: str) -> None:
    """Write a line to standard error and to the system log: runtimes discard what their hooks print."""
    line = _line(text)
    sys.stderr.write(f"{line}\n")
    syslog.openlog("canhazgpu-oci", syslog.LOG_PID, syslog.LOG_DAEMON)
    syslog.syslog(syslog.LOG_WARNING, line)


def _line(text: str) -> str:
    return f"canhazgpu: {printable(' '.join(text.split()), LONGEST)}"
