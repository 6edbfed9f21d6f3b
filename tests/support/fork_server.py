"""A process that has imported the product and forks the commands of a test run: none starts an interpreter.

A forked command is a process like any other and a child of the test run itself. Its arguments, environment,
working directory, streams and user are those that were asked for, in /proc too.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import mmap
import os
import pkgutil
import runpy
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

COMMAND = "canhazgpu.cli.main"
FOLDERS = ("cli", "client", "config", "events", "notifiers", "service", "workers")
WHEN_USED = (  # What anyio, typer and uvicorn import themselves, as soon as a service or a command begins.
    "anyio._backends._asyncio",
    "anyio._core._subprocesses",
    "anyio.streams.tls",
    "importlib.readers",
    "typer._click.decorators",
    "uvicorn.lifespan.off",
)
CLONE_PARENT, CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID = 0x8000, 0x200000, 0x1000000
CLONE = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_MM, PR_SET_MM_MAP, PR_GET_TID_ADDRESS, PR_CAP_AMBIENT = (
    4,
    8,
    35,
    14,
    40,
    47,
)
CAP_DAC_READ_SEARCH = 2
CLONE_NEWNS, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 0x1000, 0x4000, 0x40000
CAPABILITIES_VERSION = 0x20080522

libc = ctypes.PyDLL(None, use_errno=True)  # Holds the interpreter's lock, as a fork needs it.
shown: list[mmap.mmap] = []  # What /proc shows of this process lies here.


def call(name: str, *arguments: Any) -> int:
    """Call a C function that answers -1 and errno when it fails."""
    result: int = getattr(libc, name)(
        *(ctypes.c_ulong(one) if isinstance(one, int) else one for one in arguments)
    )
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), name)
    return result


def import_product() -> None:
    """Import all of it but the command's own module, which runs as `__main__` in each child.

    Settings and scripts are looked at too: they are read when they are used first.
    """
    for folder in FOLDERS:
        package = importlib.import_module(f"canhazgpu.{folder}")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name != COMMAND:
                importlib.import_module(module.name)
    for name in WHEN_USED:
        with contextlib.suppress(ModuleNotFoundError):  # Older releases have not all of them.
            importlib.import_module(name)
    importlib.import_module("canhazgpu.config.load").options()
    script = importlib.import_module("canhazgpu.events.redis_client.scripts").Script
    for one in gc.get_objects():
        if isinstance(one, script):
            one.sha  # noqa: B018 - reads its file
    gc.collect()
    gc.freeze()  # Else the first collection of each child copies every page.


def fork() -> int:
    """Fork a child whose parent is this process's parent, as if it had started it; return 0 in the child."""
    libc.syscall.restype = ctypes.c_long
    tid = ctypes.c_ulong()
    call("prctl", PR_GET_TID_ADDRESS, ctypes.byref(tid))
    flags = CLONE_PARENT | CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID | signal.SIGCHLD
    last = (tid.value, 0) if CLONE == 56 else (0, tid.value)
    ctypes.pythonapi.PyOS_BeforeFork()
    pid = libc.syscall(*map(ctypes.c_ulong, (CLONE, flags, 0, 0, *last)))
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "clone")
    return int(pid)


def show(arguments: Iterable[str], environment: Iterable[str]) -> None:
    """Have /proc show these as what this process was started with."""
    texts = [b"".join(os.fsencode(word) + b"\0" for word in words) for words in (arguments, environment)]
    memory = mmap.mmap(-1, sum(map(len, texts)), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.write(b"".join(texts))
    shown.append(memory)
    begin = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    middle, end = begin + len(texts[0]), begin + sum(map(len, texts))
    stat = [0, 0, *Path("/proc/self/stat").read_bytes().rpartition(b") ")[2].split()]
    code, stack, data = stat[25:27], stat[27:28], stat[44:46]
    libc.sbrk.restype = ctypes.c_ulong
    heap = [stat[46], libc.sbrk(0)]
    addresses = map(int, (*code, *data, *heap, *stack, begin, middle, middle, end))
    layout = struct.pack(
        "=12QIi", *addresses, 0, 0, -1
    )  # struct prctl_mm_map: no other auxv, no other program.
    call("prctl", PR_SET_MM, PR_SET_MM_MAP, layout, len(layout), 0)


def mount(pairs: Iterable[Iterable[str]]) -> None:
    """See each file in another's place, in a mount namespace of its own, as after `unshare --mount`."""
    call("unshare", CLONE_NEWNS)
    call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    for source, target in pairs:
        call("mount", os.fsencode(source), os.fsencode(target), None, MS_BIND, None)


def become_person(uid: int, gid: int) -> None:
    """Be this user, who may read everything: what `setpriv` with support.people's options makes of root."""
    call("prctl", PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    bit = 1 << CAP_DAC_READ_SEARCH
    both = (struct.pack("=2I", CAPABILITIES_VERSION, 0), struct.pack("=6I", bit, bit, bit, 0, 0, 0))
    call("capset", *both)
    call("prctl", PR_CAP_AMBIENT, 2, CAP_DAC_READ_SEARCH, 0, 0)
    call("prctl", PR_SET_KEEPCAPS, 0, 0, 0, 0)
    call("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0)


def stream(number: int, before: TextIO) -> TextIO:
    """Open a standard stream as the interpreter does."""
    return open(
        number,
        "w" if number else "r",
        buffering=1 if number == 2 or os.isatty(number) else -1,
        encoding=before.encoding,
        errors=before.errors,
        closefd=False,
    )


def become(asked: Mapping[str, Any], files: Iterable[int], added: Mapping[str, str]) -> None:
    """Be the process that was asked for, up to where its interpreter would call the command."""
    for number, file in enumerate(files):
        os.dup2(file, number)
    for name in ("stdin", "stdout", "stderr"):
        number = ("stdin", "stdout", "stderr").index(name)
        fresh = stream(number, getattr(sys, name))
        setattr(sys, name, fresh)
        setattr(sys, f"__{name}__", fresh)
    if asked["session"]:
        os.setsid()
    with contextlib.suppress(PermissionError):  # As the program `nice`, which goes on.
        os.nice(asked["nice"])
    os.chdir(asked["cwd"])
    variables = asked["environment"]
    show(
        [sys.executable, "-m", COMMAND, *asked["words"]], (f"{name}={variables[name]}" for name in variables)
    )
    os.environ.clear()
    os.environ.update({**variables, **added})
    time.tzset()
    if asked["mounts"]:
        mount(asked["mounts"])
    if asked["person"]:
        become_person(*asked["person"])
    sys.argv = [COMMAND, *asked["words"]]
    sys.path[0] = asked["cwd"]
    gc.enable()


def serve(connection: socket.socket) -> bool:
    """Fork for each request until the test run ends; return true in a child, which is what was asked for."""
    first = {entry.partition(b"=")[0] for entry in Path("/proc/self/environ").read_bytes().split(b"\0")}
    added = {name: value for name, value in os.environ.items() if name.encode() not in first}
    while True:
        head, files, _, _ = socket.recv_fds(connection, 4, 3)
        if not head:
            return False
        size = int.from_bytes(head, "big")
        text = b""
        while len(text) < size:
            text += connection.recv(size - len(text))
        if fork() == 0:
            try:
                become(json.loads(text), files, added)
            except BaseException as error:  # noqa: BLE001 - whoever asked is told
                connection.sendall(f"{error!r}".encode()[:1000])
                os._exit(127)
            connection.sendall(str(os.getpid()).encode())
            connection.close()
            os.closerange(3, 1024)
            return True
        for file in files:
            os.close(file)


def run() -> None:
    """Run the command, and end as the interpreter does, but for taking every module down again."""
    try:
        runpy.run_module(COMMAND, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise
        threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001 - the interpreter's own
        atexit._run_exitfuncs()  # noqa: SLF001 - the same
        for output in (sys.stdout, sys.stderr):
            output.flush()
        os._exit((end.code or 0) & 0xFF)


if __name__ == "__main__":
    sys.path[0] = "/"  # Not this folder, whose modules have the names of packages.
    gc.disable()
    import_product()
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a process with threads cannot be forked"
    if serve(socket.socket(fileno=int(sys.argv[1]))):
        run()
