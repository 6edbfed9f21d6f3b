"""The warnings of a notebook: when they are due, and that they never disturb a cell."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from canhazgpu.client import Unreachable
from canhazgpu.client.jupyter import warnings_of_use
from canhazgpu.client.jupyter.cuda_state import CUDA_FILE, has_cuda_started
from canhazgpu.client.jupyter.magic import reserve_options
from canhazgpu.client.jupyter.warnings_of_use import UseWarnings
from canhazgpu.client.visible_gpus import Check

ENVIRONMENT = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "0,1"}


class Shell:
    """As much of IPython as the warnings use."""

    def __init__(self) -> None:
        """Nothing is registered."""
        self.events = self
        self.registered: list[Callable[..., None]] = []

    def register(self, event: str, call: Callable[..., None]) -> None:
        """Register a callback."""
        assert event in {"pre_run_cell", "post_run_cell"}
        self.registered.append(call)

    def unregister(self, event: str, call: Callable[..., None]) -> None:
        """Take it off."""
        assert event in {"pre_run_cell", "post_run_cell"}
        self.registered.remove(call)


class Host:
    """Answers `check` with the GPUs that are reserved, or an error."""

    def __init__(self) -> None:
        """Nothing is reserved."""
        self.own: set[int] = set()
        self.trouble: Exception | None = None
        self.asked = 0

    def check(self) -> Check:
        """Return the answer for a program that sees GPUs 0 and 1."""
        self.asked += 1
        if self.trouble:
            raise self.trouble
        rows = [
            {
                "gpu_id": gpu,
                "uuid": f"GPU-{gpu}",
                "name": "A",
                "mig": [],
                "managed": True,
                "own": gpu in self.own,
            }
            for gpu in range(3)
        ]
        return Check(rows, ENVIRONMENT)


@pytest.fixture
def host() -> Host:
    """A host where nothing is reserved."""
    return Host()


@pytest.fixture
def use(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[UseWarnings]:
    """A kernel that watches, and a `torch` that can be imported."""
    (tmp_path / "torch.py").touch()
    (tmp_path / "wrapper.py").write_text("import torch\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("torch", "wrapper"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    found = UseWarnings(Shell(), host.check)
    found.begin()
    yield found
    found.end()
    for name in ("torch", "wrapper"):
        sys.modules.pop(name, None)


def test_an_import_warns_once(use: UseWarnings, host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    """Also if another library imports it; nothing is asked before."""
    use.before_cell()
    assert host.asked == 0
    importlib.import_module("wrapper")
    assert capsys.readouterr().err == (
        "Warning: torch can use GPUs 0,1, which you have not reserved:"
        " reserve with `%canhazgpu reserve` first\n"
    )
    use.before_cell()
    importlib.reload(sys.modules["torch"])
    assert (capsys.readouterr().err, host.asked) == ("", 1)


def test_reserved_gpus_need_no_warning(
    use: UseWarnings, host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    """But when the reservation has ended, the next cell that comes a minute later says so."""
    host.own = {0, 1}
    importlib.import_module("torch")
    host.own = {0}
    use.before_cell()
    assert capsys.readouterr().err == ""
    use.checked_at -= warnings_of_use.INTERVAL
    use.before_cell()
    assert "torch can use GPU 1, which" in capsys.readouterr().err


@pytest.mark.parametrize("trouble", [Unreachable("gone"), ValueError("nonsense"), KeyError("own")])
def test_no_trouble_reaches_the_cell(
    use: UseWarnings, host: Host, capsys: pytest.CaptureFixture[str], trouble: Exception
) -> None:
    """Without an answer there is no warning, and the import goes on."""
    assert use
    host.trouble = trouble
    importlib.import_module("torch")
    assert (capsys.readouterr().err, host.asked) == ("", 1)


def test_the_start_of_cuda_warns_again(
    use: UseWarnings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the cell in which it started."""
    importlib.import_module("torch")
    capsys.readouterr()
    use.after_cell()
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(warnings_of_use, "has_cuda_started", lambda: True)
    use.after_cell()
    use.after_cell()
    assert capsys.readouterr().err == (
        "Warning: CUDA has started in this kernel and sees GPUs 0,1, which you have not reserved:"
        " reserve with `%canhazgpu reserve`\n"
    )


def test_a_library_that_was_imported_before_is_noticed(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """When the extension is loaded; and nothing is left when it is unloaded."""
    before = list(sys.meta_path)
    monkeypatch.setitem(sys.modules, "cupy", sys)
    shell = Shell()
    late = UseWarnings(shell, host.check)
    late.begin()
    assert "cupy can use GPUs 0,1" in capsys.readouterr().err
    late.end()
    assert (sys.meta_path, shell.registered) == (before, [])


def test_cuda_has_started_if_its_file_is_open(tmp_path: Path) -> None:
    """The file of NVML alone says nothing, nor does a descriptor that is closed meanwhile."""
    for number, target in enumerate(["/dev/nvidiactl", "/dev/nvidia0", f"{CUDA_FILE}-tools"]):
        (tmp_path / str(number)).symlink_to(target)
    (tmp_path / "9").touch()
    assert not has_cuda_started(tmp_path)
    (tmp_path / "5").symlink_to(CUDA_FILE)
    assert has_cuda_started(tmp_path)
    assert not has_cuda_started(tmp_path / "none")
    assert not has_cuda_started()


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("", ""),
        ("2", "--gpus 2"),
        ("1 4h", "--gpus 1 --duration 4h"),
        ("4h", "--duration 4h"),
        ("1 4h --wait 30m", "--gpus 1 --duration 4h --wait 30m"),
        ("--gpu-ids 1,3 -d 2h", "--gpu-ids 1,3 -d 2h"),
    ],
)
def test_the_short_form_of_reserve(words: str, options: str) -> None:
    """A number of GPUs and a time come first; the options are those of the command."""
    assert reserve_options(words.split()) == options.split()
