"""Warns, in the output of a cell, of visible GPUs that are not reserved, before a library uses them.

The GPUs are checked when a library that uses CUDA is imported for the first time, which is before it can use
a GPU, and then at most once a minute, before a cell. A warning is repeated only if other GPUs are concerned.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

from canhazgpu.client.connection import Client
from canhazgpu.client.jupyter.cuda_state import has_cuda_started
from canhazgpu.client.visible_gpus import Check, check
from canhazgpu.events.spelling.gpu_ranges import name_gpus

LIBRARIES = frozenset({"torch", "cupy", "tensorflow", "jax"})
PATIENCE = 0.5  # Seconds. A cell must not wait for a service that is stopped.
INTERVAL = 60.0  # Seconds between two checks.


class UseWarnings:
    """Watches the imports and the cells of one kernel."""

    def __init__(self, shell: Any, checked: Callable[[], Check] | None = None) -> None:
        """`shell` is IPython's; `checked` returns what `check` does."""
        self._shell = shell
        self._check = checked or (lambda: check(client=Client(patience=PATIENCE)))
        self._warned: tuple[object, ...] = ()
        self.checked_at = -INTERVAL  # On the monotonic clock.
        self._seen: set[str] = set()
        self._started = False

    def begin(self) -> None:
        """Watch from now on; look at once if a library has been imported before."""
        sys.meta_path.insert(0, self)
        self._shell.events.register("pre_run_cell", self.before_cell)
        self._shell.events.register("post_run_cell", self.after_cell)
        self.before_cell()

    def end(self) -> None:
        """Watch no more."""
        sys.meta_path.remove(self)
        self._shell.events.unregister("pre_run_cell", self.before_cell)
        self._shell.events.unregister("post_run_cell", self.after_cell)

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Look when a library is about to be imported. Python calls this; it never finds a module."""
        del path, target
        if name in LIBRARIES and name not in self._seen:
            self._seen.add(name)
            self._look(name)

    def before_cell(self, info: object = None) -> None:
        """Look again if a library has been imported and the last look was a while ago."""
        del info
        loaded = LIBRARIES & sys.modules.keys()
        if loaded and time.monotonic() >= self.checked_at + INTERVAL:
            self._look(min(loaded))

    def after_cell(self, result: object = None) -> None:
        """Look when CUDA has started in the cell that has ended."""
        del result
        if not self._started and has_cuda_started():
            self._started = True
            self._look("")

    def _look(self, library: str) -> None:
        """Print a warning if one is due. Whatever goes wrong, the cell goes on."""
        self.checked_at = time.monotonic()
        try:
            found = self._check()
            started = self._started or has_cuda_started()
            state = (started, *found.missing)
            if found.missing and state != self._warned:
                print(_warning(found, library, started=started), file=sys.stderr, flush=True)  # noqa: T201
            self._warned = state if found.missing else ()
        except Exception:  # noqa: BLE001, S110 - a warning is not worth the cell of a user
            pass


def _warning(found: Check, library: str, *, started: bool) -> str:
    gpus = name_gpus(found.missing)
    seen = f"CUDA has started in this kernel and sees {gpus}" if started else f"{library} can use {gpus}"
    remedy = "reserve with `%canhazgpu reserve`" + ("" if started else " first")
    return f"Warning: {seen}, which you have not reserved: {remedy}"
