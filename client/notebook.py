"""The extension for Jupyter and IPython: `%load_ext canhazgpu.client.notebook`."""

from typing import Any

from canhazgpu.client.jupyter.magic import MAGIC
from canhazgpu.client.jupyter.warnings_of_use import UseWarnings

_LOADED: dict[str, UseWarnings] = {}


def load_ipython_extension(shell: Any) -> None:
    """Define `%canhazgpu`, and begin to warn. IPython calls this for `%load_ext`."""
    unload_ipython_extension(shell)
    shell.register_magic_function(MAGIC.run, "line", "canhazgpu")
    _LOADED["use"] = UseWarnings(shell)
    _LOADED["use"].begin()


def unload_ipython_extension(shell: Any) -> None:
    """Stop warning. What the kernel holds it keeps. IPython calls this for `%unload_ext`."""
    del shell
    if use := _LOADED.pop("use", None):
        use.end()
