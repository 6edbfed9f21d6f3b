"""The plugin's socket, and its registration with the kubelet.

A kubelet that restarts removes all sockets of plugins and makes its own anew; then everything begins again.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from canhazgpu.cli.kubernetes.messages import (
    DEVICE_PLUGIN,
    REGISTRATION,
    VERSION,
    call,
    handlers,
    message,
)
from canhazgpu.cli.kubernetes.pods import KubeletAway, reason

if TYPE_CHECKING:
    from canhazgpu.cli.kubernetes.servicer import Servicer

KUBELET, OWN = "kubelet.sock", "canhazgpu.sock"
PATIENCE = 5.0  # Seconds for the kubelet's answer.
THREADS = 8  # One for each list that is watched; a kubelet has one.
GRACE = 1.0

Place = tuple[int, int, int]


class Endpoint:
    """A server on its socket in the kubelet's directory, registered with the kubelet that runs there."""

    def __init__(self, folder: str, resource: str, servicer: Servicer) -> None:
        """Serve and register. Raises KubeletAway, and OSError if the socket cannot be made."""
        self._kubelet, self._own = Path(folder, KUBELET), Path(folder, OWN)
        kubelet = _place(self._kubelet)
        if kubelet is None:
            raise KubeletAway(f"{self._kubelet} does not exist")
        with contextlib.suppress(FileNotFoundError):
            self._own.unlink()
        self._server = grpc.server(ThreadPoolExecutor(THREADS), options=(("grpc.so_reuseport", 0),))
        self._server.add_generic_rpc_handlers((handlers(DEVICE_PLUGIN, servicer),))
        try:
            self._server.add_insecure_port(f"unix:{self._own}")
        except RuntimeError as error:
            raise KubeletAway(f"{self._own} cannot be created: {_cause(error)}") from error
        self._server.start()
        self._places = (kubelet, _place(self._own))
        try:
            self._register(resource)
        except grpc.RpcError as error:
            self.close()
            raise KubeletAway(f"{self._kubelet}: {reason(error)}") from error

    def is_current(self) -> bool:
        """Return whether the kubelet is the one that knows it, and the socket is there."""
        return self._places == (_place(self._kubelet), _place(self._own))

    def close(self) -> None:
        """Stop serving; the socket goes, unless another has taken its place."""
        self._server.stop(GRACE).wait()
        if _place(self._own) == self._places[1]:
            with contextlib.suppress(OSError):
                self._own.unlink()

    def _register(self, resource: str) -> None:
        request = message("v1beta1.RegisterRequest")(version=VERSION, endpoint=OWN, resource_name=resource)
        with grpc.insecure_channel(f"unix:{self._kubelet}") as channel:
            call(channel, REGISTRATION, "Register")(request, timeout=PATIENCE)


def _place(path: Path) -> Place | None:
    """Return what tells a socket from another one at the same path."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_ctime_ns


def _cause(error: RuntimeError) -> str:
    return " ".join(str(error).split())
