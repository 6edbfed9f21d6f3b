"""Warnings in a notebook with a real kernel, whose CUDA is a device file that a library opens."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.daemon import Daemon, until
from support.notebook import Notebook, Output

pytestmark = [pytest.mark.notebook, pytest.mark.timeout(300)]  # A kernel is slow to start.
TORCH = """\
import os
visible = os.environ.get("CUDA_VISIBLE_DEVICES")
def init():
    global opened
    opened = open("/dev/nvidia-uvm")
"""
# The kernel and its descendants have a /dev of their own, with the file that CUDA opens first.
PRIVATE = """
mkdir -p "$0"
mount --rbind /dev "$0"
mount -t tmpfs tmpfs /dev
ln -s "$0"/* /dev/
touch /dev/nvidia-uvm
exec "$@"
"""
PATIENT = "from canhazgpu.client.jupyter import warnings_of_use as w; w.PATIENCE = 60"
BEFORE = (
    "Warning: torch can use GPUs 0-3, which you have not reserved: reserve with `%canhazgpu reserve` first\n"
)
AFTER = (
    "Warning: CUDA has started in this kernel and sees GPUs 0-3, which you have not reserved:"
    " reserve with `%canhazgpu reserve`\n"
)
RESTART = (
    "CUDA has already started in this kernel and keeps the GPUs it had:"
    " restart the kernel, and run `%canhazgpu reserve` before anything uses CUDA\n"
)


@pytest.fixture
def free(lasting_host: Daemon) -> Iterator[Daemon]:
    """A host with four GPUs, all free, and a `torch` that can be imported."""
    (lasting_host.folder / "torch.py").write_text(TORCH)
    until(lambda: lasting_host.status().count("AVAILABLE") == 4)
    yield lasting_host
    lasting_host.run("admin", "release", "--all")


def environment(host: Daemon) -> dict[str, str]:
    """Return the environment of a kernel that finds that `torch`."""
    return {**host.environment, "PYTHONPATH": str(host.folder)}


def within(host: Daemon) -> tuple[str, ...]:
    """Return a command that gives the kernel its own file of CUDA."""
    if os.geteuid() != 0:
        pytest.skip("to mount a /dev needs root")
    return ("unshare", "--mount", "--propagation", "private", "sh", "-ec", PRIVATE, f"{host.folder}/dev")


@contextmanager
def kernel(variables: dict[str, str], *words: str) -> Iterator[Notebook]:
    """Start a kernel whose warnings wait for the service, however busy the machine is."""
    with Notebook(variables, within=words) as notebook:
        assert notebook.cell(PATIENT) == Output("", "")
        yield notebook


def test_an_import_without_a_reservation_warns(free: Daemon) -> None:
    """In the output of its cell, once; with a reservation there is no warning."""
    with kernel(environment(free)) as notebook:
        assert notebook.cell("print('no library')") == Output("no library\n", "")
        shown = notebook.cell("import torch\nprint('went on')")
        assert (set(shown.text.splitlines(keepends=True)), shown.error) == ({BEFORE, "went on\n"}, "")
        assert notebook.cell("import torch") == Output("", "")
    with kernel(environment(free)) as notebook:
        assert notebook.cell("%canhazgpu reserve --gpu-ids 2").error == ""
        assert notebook.cell("import torch\nprint(torch.visible)") == Output("2\n", "")


def test_the_start_of_cuda_warns_after_its_cell(free: Daemon) -> None:
    """A reservation that comes later cannot change which GPUs CUDA sees, and says so."""
    with kernel(environment(free), *within(free)) as notebook:
        assert notebook.cell("import torch") == Output(BEFORE, "")
        assert notebook.cell("torch.init()") == Output(AFTER, "")
        assert notebook.cell("torch.opened") == Output("", "")
        late = notebook.cell("%canhazgpu reserve --gpu-ids 2")
        assert late.text.endswith(f", or until this kernel ends\n{RESTART}")
        assert notebook.cell("%canhazgpu release").text == (
            "Released GPU 2\nCUDA can still use them in this kernel: restart it\n"
        )


def test_a_service_that_is_gone_disturbs_no_cell(tmp_path: Path, free: Daemon) -> None:
    """Imports and cells go on without a word."""
    gone = {**environment(free), "CANHAZGPU_SOCKET": str(tmp_path / "none")}
    with kernel(gone) as notebook:
        assert notebook.cell("import torch\nprint('went on')") == Output("went on\n", "")
