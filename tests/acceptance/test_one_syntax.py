"""Times and GPUs are written the same way in all commands, and the service resolves UUIDs."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from support.daemon import Daemon, gpu, until

from canhazgpu.cli.commands import COMMANDS, build
from canhazgpu.events.timestamps import ms_of

DAY = 86_400
# Options whose values are the same kind of thing, by the name of that kind.
KINDS = {
    "TIME": {"--duration", "--for", "--timeout", "--since", "--until"},
    "[TIME]": {"--wait"},
    "GPUS": {"--gpu-ids"},
    "GPU": {"--gpu"},
    "NUMBER": {"--gpus"},
    "TEXT": {"--note", "--reason"},
    "FILE": {"--config"},
    "CHANNEL": {"--channel"},
    "KIND": {"--kind"},
}


@pytest.fixture(scope="module")
def running() -> Iterator[Daemon]:
    """Four idle GPUs with UUIDs of which two begin alike."""
    with tempfile.TemporaryDirectory(prefix="chg-", dir="/tmp") as name:
        daemon = Daemon(Path(name))
        uuids = ("GPU-aa00", "GPU-aa11", "GPU-bb22", "GPU-cc33")
        daemon.place(*(gpu(index, uuid=uuid) for index, uuid in enumerate(uuids)))
        yield daemon.start()
        daemon.stop()


@pytest.fixture
def four(running: Daemon) -> Daemon:
    """The same, with nothing reserved."""
    assert running.run("admin", "undrain", "all").returncode == 0
    assert running.run("release", "--all").returncode == 0
    until(lambda: running.status().count("AVAILABLE") == 4)
    return running


def rows(host: Daemon, *words: str) -> Any:
    """Return what a command prints as JSON."""
    done = host.run(*words)
    assert done.returncode == 0, done
    return json.loads(done.stdout)


def held(host: Daemon) -> list[int]:
    """Return the indices of the reserved GPUs."""
    return [row["gpu_id"] for row in rows(host, "status", "--json") if row["reservation"]]


@pytest.mark.parametrize(
    ("written", "gpus"),
    [
        ("3", [3]),
        ("0-2", [0, 1, 2]),
        ("0,2", [0, 2]),
        ("all", [0, 1, 2, 3]),
        ("GPU-bb", [2]),
        ("gpu-aa11,3", [1, 3]),
    ],
)
def test_gpus_are_named_alike_everywhere(four: Daemon, written: str, gpus: list[int]) -> None:
    """Each form works as an option and as an argument."""
    got = rows(four, "reserve", "--gpu-ids", written, "--json")
    assert (got["gpus"], held(four)) == (gpus, gpus)
    for place in (["--gpu-ids", written], [written]):
        code = four.run("env", *place, "--shell", "bash")
        assert f"CUDA_VISIBLE_DEVICES={','.join(map(str, gpus))}\n" in code.stdout, code
        assert len(rows(four, "extend", *place, "--duration", "1h", "--json")) == 1
        assert rows(four, "disown", *place, "--json") == []
    assert [row["gpus"] for row in rows(four, "release", written, "--json")] == [gpus]
    assert four.run("run", "--gpu-ids", written, "--", "true").returncode == 0
    until(lambda: held(four) == [])
    assert four.run("admin", "drain", written).returncode == 0
    drained = [row["gpu_id"] for row in rows(four, "status", "--json") if row["status"] == "DRAINED"]
    assert drained == gpus
    assert four.run("admin", "undrain", *written.split(",")).returncode == 0
    assert four.run("reserve", "--gpu-ids", written).returncode == 0
    assert four.run("admin", "release", written).returncode == 0
    assert held(four) == []


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("90m", 5400),
        ("1h30m", 5400),
        ("1:30:00", 5400),
        ("2 days", 2 * DAY),
        ("1w", 7 * DAY),
        ("0.5h", 1800),
    ],
)
def test_times_are_written_alike_everywhere(four: Daemon, written: str, seconds: int) -> None:
    """`--duration` is the name in all commands, and `extend` takes the time as an argument too."""
    held_now = rows(four, "reserve", "--gpu-ids", "1", "--duration", written, "--json")
    ends = ms_of(held_now["expires"])
    assert ends - ms_of(held_now["started"]) == seconds * 1000
    for words in (["--duration", written], [written], ["1", *written.split()], [f"+{written}"]):
        (row,) = rows(four, "extend", *words, "--json")
        ends += seconds * 1000
        assert ms_of(row["expires"]) == ends, words
    for name in ("--duration", "-d", "--timeout", "-t"):
        assert four.run("run", "--gpu-ids", "2", name, written, "--", "true").returncode == 0
        until(lambda: held(four) == [1])
    assert four.run("reserve", "--gpu-ids", "3", "--duration", "1h").returncode == 0
    extended = rows(four, "extend", "1", "3", *written.split(), "--json")
    assert [(row["gpus"], row["expires_in_s"] >= seconds) for row in extended] == [([1], True), ([3], True)]
    for name in ("--duration", "-d", "--for"):
        silence = rows(four, "silence", "add", "--gpu", "GPU-bb", "--reason", "r", name, written, "--json")
        assert (silence["gpu"], abs(silence["left_s"] - seconds) <= 60) == (2, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("reserve", "--gpu-ids", "GPU-aa"), "GPU-aa is the beginning of 2 UUIDs: GPU-aa00 (GPU 0)"),
        (("release", "GPU-dd"), "no GPU of this host has a UUID that begins with GPU-dd"),
        (("admin", "drain", "GPU-dd"), "no GPU of this host has a UUID that begins with GPU-dd"),
        (("violations", "--gpu", "GPU-dd"), "no GPU of this host has a UUID that begins with GPU-dd"),
        (("violations", "--gpu", "GPU_dd"), "--gpu: 'GPU_dd' is not a GPU"),
        (("silence", "add", "--gpu", "x", "-d", "1h", "-r", "r"), "--gpu: 'x' is not a GPU"),
        (("release", "3", "--gpu-ids", "3"), "the GPUs are named twice"),
        (("release", "3", "--all"), "GPUs and --all cannot be used together"),
        (("extend", "3", "2"), "TIME: '2' has no unit"),
        (("extend", "2h", "--duration", "2h"), "the time is given twice"),
        (("reserve", "--gpus", "2", "--gpu-ids", "all"), "--gpus is 2, but --gpu-ids says all"),
        (("run", "-t", "x", "--", "true"), "--duration: 'x' is not a duration"),
        (("run", "--timeout", "x", "--", "true"), "--timeout: 'x' is not a duration"),
        (("silence", "ack", "--for=x"), "--for: 'x' is not a duration"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_what_is_not_understood_is_named(four: Daemon, words: tuple[str, ...], said: str) -> None:
    """One line, which names the option as it was typed, and nothing is changed."""
    done = four.run(*words)
    assert (done.returncode in (2, 125), done.stdout, done.stderr.count("\n")) == (True, "", 1), done
    assert said in done.stderr


def test_a_gpu_of_somebody_who_has_none_is_no_traceback(four: Daemon) -> None:
    """`env` for a GPU that one does not hold, by whatever name, is refused."""
    for name in ("3", "GPU-cc", "0-3"):
        done = four.run("env", name)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done
    assert four.run("env", "all").returncode == 1


def test_violations_of_a_gpu_by_its_uuid(four: Daemon) -> None:
    """The list for a GPU is the same by its index and by its UUID."""
    for name in ("2", "GPU-bb22", "gpu-b"):
        assert rows(four, "violations", "--gpu", name, "--json") == []
        ended = rows(four, "history", "--gpu", name, "--json")
        assert ended == rows(four, "history", "--gpu", "2", "--json")


def test_the_same_kind_of_value_has_the_same_name_in_every_help() -> None:
    """Metavars: one word for a time, a GPU, a number, a text, a file; a user is -u, --user."""
    expected = {name: metavar for metavar, names in KINDS.items() for name in names}
    for path, option in _options(typer.main.get_command(build(*COMMANDS)), "canhazgpu"):
        for name in option.opts:
            if name in expected and not option.hidden:
                assert option.metavar == expected[name], (path, name)
        if "--user" in option.opts:
            assert "-u" in option.opts, path
            assert option.metavar in ("USER", "NAME"), path
        if not (option.is_flag or option.hidden or option.count):
            assert option.metavar, (path, option.opts)
        if "--duration" in option.opts:
            assert "-d" in option.opts, path


def _options(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    for one in command.params:
        if one.param_type_name == "option":
            yield path, one
    for name, inner in getattr(command, "commands", {}).items():
        yield from _options(inner, f"{path} {name}")
