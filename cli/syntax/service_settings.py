"""Settings that a command is given, but that only the service reads. Imported only if there may be one."""

from __future__ import annotations

import os
import sys

from canhazgpu.client.connection import read_settings
from canhazgpu.events.default_paths import CONFIG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

TIMEZONE = "CANHAZGPU_NOTICES_QUIET_TIMEZONE"  # Commands read it too.
SOCKET = "CANHAZGPU_SOCKET"
# Commands that read the settings themselves.
READERS = frozenset(
    {
        "serve",
        "worker",
        "config",
        "doctor",
        "backup",
        "restore",
        "redis",
        "install",
        "demo",
        "log",
        "notify",
        "slurm",
        "pbs",
        "kubernetes",
        "exporter",
        "web",
        "enforcement",
        "oci",
    }
)
# The tables of a settings file that seem to be about a command; others are there for the service, no doubt.
TABLES = {
    "reserve": ("reserve", "limits"),
    "extend": ("reserve", "limits"),
    "run": ("run", "limits"),
}


def ignored_variables(command: str, environ: Mapping[str, str]) -> list[str]:
    """Return the variables that set something which `command` does not read."""
    in_group = any(word.partition("=")[0] == "--group" for word in sys.argv)  # Which is read from Redis.
    if command in READERS or (command == "events" and in_group):
        return []
    from canhazgpu.config.load import options  # noqa: PLC0415 - heavy

    settings = {option.variable for option in options()} - {TIMEZONE, SOCKET}
    return sorted(settings.intersection(environ))


def ignored_tables(command: str, settings: Mapping[str, Any]) -> list[str]:
    """Return the tables of a settings file that seem to be about `command`, which does not read them."""
    return [f"[{name}]" for name in TABLES.get(command, ()) if settings.get(name)]


def note(command: str, environ: Mapping[str, str], file: str | None) -> str:
    """Return the line that says what only the service reads, or nothing. `file` is that of --config."""
    names = ignored_variables(command, environ)
    if file and file != CONFIG and command in TABLES and os.path.isfile(file):  # noqa: PTH113 - not a pipe
        tables = ignored_tables(command, read_settings(file))
        names += [f"{', '.join(tables)} of {file}"] if tables else []
    if not names:
        return ""
    return f"Note: only the service reads {', '.join(names)}, when it starts; `{command}` does not\n"
