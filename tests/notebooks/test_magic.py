"""`%canhazgpu` in a notebook with a real kernel."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import Daemon, until
from support.notebook import PYTHON, Notebook, Output
from support.people import Person

from canhazgpu.events.spelling.gpu_ranges import spell_ranges

pytestmark = [pytest.mark.notebook, pytest.mark.timeout(300)]  # A kernel is slow to start.
SEEN = "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES', 'not set'))"


@pytest.fixture
def free(lasting_host: Daemon) -> Iterator[Daemon]:
    """A host with four GPUs, all free."""
    until(lambda: lasting_host.status().count("AVAILABLE") == 4)
    yield lasting_host
    lasting_host.run("admin", "release", "--all")


def held(host: Daemon) -> list[int]:
    """Return the GPUs that are reserved."""
    shown = json.loads(host.run("status", "--json").stdout)
    return [one["gpu_id"] for one in shown if one["reservation"]]


def test_without_words_it_shows_what_one_holds_and_who_holds_what(free: Daemon, people: list[Person]) -> None:
    """The sentence of `check`, and the lines of `status`."""
    assert free.run("reserve", "--gpu-ids", "0", person=people[0], cwd="/").returncode == 0
    with Notebook(free.environment) as notebook:
        assert notebook.cell("%canhazgpu reserve --gpu-ids 2 --duration 4h").error == ""
        shown = notebook.cell("%canhazgpu")
    assert shown.error == ""
    sentence, *lines = shown.text.splitlines()
    assert sentence.startswith("GPU 2 is reserved by you for 3h 59m")
    assert f"GPU 0: IN USE by {people[0].name} " in lines[0]
    assert [line.partition(":")[0] for line in lines] == ["GPU 0", "GPU 1", "GPU 2", "GPU 3"]


def test_a_reservation_sets_the_variables_of_the_kernel(free: Daemon) -> None:
    """Libraries that are imported later see the reserved GPUs only; after the release they see none."""
    with Notebook(free.environment) as notebook:
        assert notebook.cell(SEEN).text == "not set\n"
        said = notebook.cell("%canhazgpu reserve 2 4h")
        gpus = spell_ranges(held(free))
        assert len(gpus) == len("0,1")
        assert said == Output(f"Reserved GPUs {gpus} for 4h 0m 0s, or until this kernel ends\n", "")
        assert notebook.cell(SEEN).text == f"{gpus}\n"
        checked = notebook.cell("%canhazgpu check").text
        assert checked.startswith(f"GPUs {gpus} are reserved by you for 3h 59m")
        assert notebook.cell("%canhazgpu release") == Output(f"Released GPUs {gpus}\n", "")
        assert notebook.cell(SEEN).text == "\n"
        assert held(free) == []


def test_a_cell_that_is_run_again_reserves_nothing_more(free: Daemon) -> None:
    """The kernel keeps what it holds, until somebody else releases it."""
    with Notebook(free.environment) as notebook:
        notebook.cell("%canhazgpu reserve 1 4h")
        (gpu,) = held(free)
        again = notebook.cell("%canhazgpu reserve 1 4h")
        assert again.text.startswith(f"This kernel already holds GPU {gpu} for another 3h 59m")
        assert held(free) == [gpu]
        free.run("release")
        assert notebook.cell("%canhazgpu reserve --gpu-ids 3").text.startswith("Reserved GPU 3 for 8h 0m 0s")
        assert notebook.cell("%canhazgpu release").text == "Released GPU 3\n"
        assert notebook.cell(SEEN).text == "\n"
        nothing = "This kernel holds no GPUs; `!canhazgpu release` releases those reserved elsewhere\n"
        assert notebook.cell("%canhazgpu release").text == nothing


@pytest.mark.parametrize("how", ["shut down", "killed"])
def test_the_reservation_ends_with_the_kernel(free: Daemon, how: str) -> None:
    """Also if the kernel is killed, and nobody else's reservation ends."""
    free.run("reserve", "--gpu-ids", "3")
    notebook = Notebook(free.environment)
    with notebook:
        notebook.cell("%canhazgpu reserve 2 4h")
        assert len(held(free)) == 3
        if how == "killed":
            notebook.kill()
    until(lambda: held(free) == [3])


def test_a_reservation_made_elsewhere_can_be_used(free: Daemon) -> None:
    """`use` sets the variables, and the reservation outlives the kernel."""
    with Notebook(free.environment) as notebook:
        nothing = notebook.cell("%canhazgpu use")
        assert nothing.error == "UsageError: you hold no GPUs: reserve some with `%canhazgpu reserve`"
        free.run("reserve", "--gpu-ids", "1")
        free.run("reserve", "--gpu-ids", "3")
        assert notebook.cell("%canhazgpu use").text == "This kernel uses GPUs 1,3, until you release them\n"
        assert notebook.cell(SEEN).text == "1,3\n"
        assert notebook.cell("%canhazgpu check").error == ""
    assert held(free) == [1, 3]


def test_a_kernel_under_run_has_its_gpus_already(free: Daemon) -> None:
    """`canhazgpu run -- jupyter lab`: the magic reserves only what is missing."""
    run = ("-P", "-m", "canhazgpu", "run", "--gpu-ids", "1,2", "--")
    with Notebook(free.environment, within=(str(PYTHON), *run)) as notebook:
        said = notebook.cell("%canhazgpu reserve 2 4h")
        assert said == Output("This kernel has GPUs 1,2, which you have reserved\n", "")
        assert notebook.cell("%canhazgpu reserve --gpu-ids 0").text.startswith("Reserved GPU 0 for 8h 0m 0s")
        assert notebook.cell("%canhazgpu release").text == "Released GPU 0\n"
        assert notebook.cell(SEEN).text == "1,2\n"
    until(lambda: held(free) == [])


FAILURES = [
    ("reserve 5", "5 GPUs were requested"),
    ("reserve 1 4x", "'4x' is not a duration"),
    ("reserve 1 4h 2", "'2' is one word too many: write `%canhazgpu reserve 1 4h`"),
    ("reserve --gpu-ids 9", "GPU 9"),
    ("check", "not reserved"),
    ("serve", "unknown words 'serve': use %canhazgpu reserve 1 4h"),
    ("top", "unknown words 'top'"),
]


def test_a_failure_is_one_line_and_the_cell_fails(free: Daemon) -> None:
    """So that `Run All` does not go on without a reservation."""
    with Notebook(free.environment) as notebook:
        for line, said in FAILURES:
            shown = notebook.cell(f"%canhazgpu {line}\nprint('went on')")
            assert said in shown.error
            assert shown.text == f"{shown.error}\n"
            assert shown.error.startswith("UsageError: ")
            assert "\n" not in shown.error
    assert held(free) == []


def test_the_help_of_reserve_is_shown(free: Daemon) -> None:
    """Nothing is reserved."""
    with Notebook(free.environment) as notebook:
        shown = notebook.cell("%canhazgpu reserve --help")
        assert shown.error == ""
        assert "--duration" in shown.text
    assert held(free) == []


def test_an_option_without_its_value_is_one_line_under_run_too(free: Daemon) -> None:
    """The kernel has GPUs, so that the magic counts first."""
    run = ("-P", "-m", "canhazgpu", "run", "--gpu-ids", "1", "--")
    with Notebook(free.environment, within=(str(PYTHON), *run)) as notebook:
        said = notebook.cell("%canhazgpu reserve --gpus")
        assert said.error.startswith("UsageError: ")


def test_settings_that_have_gone_are_one_line(free: Daemon, tmp_path: Path) -> None:
    """Also where the kernel asks the service itself."""
    gone = tmp_path / "gone.toml"
    with Notebook(free.environment) as notebook:
        notebook.cell("%canhazgpu reserve 1 4h")
        notebook.cell(f"import os; os.environ['CANHAZGPU_CONFIG'] = '{gone}'")
        for line in ("reserve 1", "release"):
            said = notebook.cell(f"%canhazgpu {line}")
            assert said.error == f"UsageError: {gone}: cannot be read: No such file or directory"


def test_without_a_service_it_says_so(tmp_path: Path) -> None:
    """One line, with the socket."""
    with Notebook({"PATH": "/usr/bin:/bin", "CANHAZGPU_SOCKET": str(tmp_path / "none")}) as notebook:
        for line in ("reserve", "status", "", "check"):
            assert f"does not answer on {tmp_path}/none" in notebook.cell(f"%canhazgpu {line}").error
