"""Starts the commands and services of a test run by forking a process that has imported them already.

After `install()`, `subprocess` does this for every `COMMAND`, unless the test asks for something that only
the start of an interpreter gives. `EXECUTED` is the same command, always with a new interpreter.
"""

import inspect
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-m", "canhazgpu.cli.main"]
EXECUTED = ["env", *COMMAND]
PREFERRED = ["nice", "-n", "-10"]
PERSON = [r"setpriv", r"--reuid=(\d+)", r"--regid=(\d+)", "--clear-groups"]
PERSON += [r"--inh-caps=\+dac_read_search", r"--ambient-caps=\+dac_read_search"]
AT_START = re.compile(r"PYTHON|LD_|LC_|LANG|MALLOC|GLIBC")  # Variables that count as a process starts.
MOUNTED = ["unshare", "--mount", "sh", "-c"]
MOUNT = re.compile(r"mount --bind (\S+) (\S+) && ")
UNUSUAL = {
    "executable": None,
    "preexec_fn": None,
    "pass_fds": (),
    "shell": False,
    "uid": None,
    "gid": None,
    "gids": None,
    "umask": -1,
    "process_group": -1,
    "close_fds": True,
}
started = subprocess.Popen._execute_child  # type: ignore[attr-defined]  # noqa: SLF001 - there is no other hook


class ForkServer:
    """The fork server of this test run; it starts with the first command and ends with the run."""

    def __init__(self) -> None:
        self._environment = dict(os.environ)
        self._at_start = _at_start(self._environment)
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None

    def can(self, environment: Mapping[str, str]) -> bool:
        """Tell whether a process with this environment can be forked."""
        return _at_start(environment) == self._at_start

    def fork(self, request: Mapping[str, Any], files: list[int]) -> int:
        """Return the process id of a new child of this process, which runs the command."""
        text = json.dumps(request).encode()
        with self._lock:
            connection, self._connection = self._connection or self._start(), None
            socket.send_fds(connection, [len(text).to_bytes(4, "big")], files)
            connection.sendall(text)
            answer = connection.recv(1000).decode()
            # If a test is broken off before, this answer is not taken for that to the next request.
            self._connection = connection
        if not answer.isdecimal():
            raise RuntimeError(f"the fork server: {answer or 'has ended'}")
        return int(answer)

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.settimeout(240)  # All of the product is imported, and compiled if it is new.
        with theirs:
            words = [sys.executable, str(Path(__file__).with_name("fork_server.py")), str(theirs.fileno())]
            server = subprocess.Popen(words, env=self._environment, pass_fds=[theirs.fileno()], cwd="/")
        server.returncode = 0  # It ends when this process does: nobody waits for it.
        return ours


def _at_start(environment: Mapping[str, str]) -> dict[str, str]:
    found = {name: value for name, value in environment.items() if AT_START.match(name)}
    if not _has_modules(found.get("LD_LIBRARY_PATH", "")):  # The rest is for the programs that it starts.
        found.pop("LD_LIBRARY_PATH", None)
    return found


def _has_modules(folders: str) -> bool:
    """Tell whether there are modules that the C library loads into a process that runs already."""
    return any(any(Path(folder).glob("libnss_*")) for folder in folders.split(":") if folder)


def _mounts(words: list[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Return what `mounted` asked for, as pairs of what is seen where, and the other words."""
    if words[:4] != MOUNTED or words[5:6] != ["sh"]:
        return [], words
    pairs = MOUNT.findall(words[4])
    return (pairs, words[6:]) if mounted(pairs) == words[:6] else ([], words)


def mounted(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Return the words that start a command where each file is seen in another's place."""
    script = "".join(f"mount --bind {source} {target} && " for source, target in pairs)
    return [*MOUNTED, f'{script}exec "$@"', "sh"]


def _request(asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the fork server is asked for, or None where the process needs a start of its own."""
    words = [os.fspath(word) for word in asked["args"]] if isinstance(asked["args"], (list, tuple)) else []
    if any(asked.get(name, usual) != usual for name, usual in UNUSUAL.items()):
        return None
    nice = words[:3] == PREFERRED
    words = words[3:] if nice else words
    mounts, words = _mounts(words)
    matches = [re.fullmatch(pattern, word) for pattern, word in zip(PERSON, words, strict=False)]
    person = [int(match[1]) for match in matches[1:3] if match] if matches and all(matches) else []
    words = words[len(PERSON) :] if person else words
    if words[: len(COMMAND)] != COMMAND:
        return None
    return {
        "words": words[len(COMMAND) :],
        "nice": -10 if nice else 0,
        "mounts": mounts,
        "person": person,
        "session": asked["start_new_session"],
        "cwd": os.fspath(asked["cwd"] or Path.cwd()),
        "environment": dict(os.environ if asked["env"] is None else asked["env"]),
    }


def install() -> None:
    """Have commands forked from now on."""
    if os.uname().machine not in {"x86_64", "aarch64"}:
        return
    server = ForkServer()
    signature = inspect.signature(started)

    def start(process: Any, *arguments: Any) -> None:
        asked = signature.bind(process, *arguments).arguments
        request = _request(asked)
        if request is None or not server.can(request["environment"]):
            started(process, *arguments)
            return
        given = (asked["p2cread"], asked["c2pwrite"], asked["errwrite"])
        files = [number if file == -1 else file for number, file in enumerate(given)]
        process.pid = server.fork(request, files)
        process._child_created = True  # noqa: SLF001 - as the method that this replaces does
        pipes = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        process._close_pipe_fds(*(asked[name] for name in pipes))  # noqa: SLF001 - the same

    subprocess.Popen._execute_child = start  # type: ignore[attr-defined]  # noqa: SLF001 - there is no other hook
