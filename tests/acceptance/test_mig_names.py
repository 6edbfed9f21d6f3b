"""MIG instances in the options of commands: `0:1` is understood wherever a GPU is named."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import Daemon, gpu, until, use
from support.mig import instance

SMALL, LARGE = "MIG-aaaaaaaa-0", "MIG-bbbbbbbb-1"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A host on which bob uses the instance 0:1 without a reservation, and 0:0 was reserved and released."""
    folder: Path = tmp_path_factory.mktemp("host")
    made = Daemon(folder)
    used = use(12345, 1024, "bob", "python3")
    instances = instance(0, "1g.10gb", SMALL), instance(1, "3g.40gb", LARGE, used)
    made.place(gpu(0, uuid="GPU-card"), *instances, gpu(1, uuid="GPU-whole"))
    made.start()
    until(lambda: "python3" in made.run("violations").stdout)
    made.run("reserve", "--gpu-ids", "0:0", "--note", "small")
    made.run("release", "0:0")
    until(lambda: "small" in made.run("history").stdout)
    yield made
    made.stop()


def test_violations_of_an_instance(host: Daemon) -> None:
    """By its name; those of the divided GPU are those of its instances."""
    for named in ("0:1", "gpu0:1", LARGE[:8], "0"):
        assert "bob" in host.run("violations", "--gpu", named).stdout, named
    for named in ("0:0", "1", "0:7"):
        assert host.run("violations", "--gpu", named).stdout == "No such violations.\n", named
    wrong = host.run("violations", "--gpu", "0:x")
    assert (wrong.returncode, wrong.stderr.startswith("Error: --gpu: '0:x' is not a GPU")) == (2, True)


def test_history_of_an_instance(host: Daemon) -> None:
    """By its name; that of the divided GPU has its instances."""
    for named in ("0:0", "0"):
        assert "small" in host.run("history", "--gpu", named).stdout, named
    none = host.run("history", "--gpu", "0:1")
    assert none.stdout.startswith("No reservation on GPU 0:1 ended in the last 7 days")


def test_events_about_an_instance(host: Daemon) -> None:
    """The lines have its name; JSON has the index, as the contract says."""
    lines = host.run("events", "--gpu", "0:1").stdout
    assert "gpu/0:1  state=ok" in lines
    assert "user=bob gpu=0:1 " in lines
    assert "gpu/0:0" not in lines
    released = host.run("events", "--gpu", "0:0", "--type", "reservation.released").stdout
    assert "gpus=0:0 reason=released" in released
    (event,) = host.run("events", "--gpu", "0:1", "--type", "gpu.changed", "--json").stdout.splitlines()
    assert json.loads(event)["subject"] == "gpu/1025"
    assert "user=bob gpu=0:1 " in host.run("events", "--gpu", "0").stdout


def test_extend_an_instance(host: Daemon) -> None:
    """The time may be an argument or an option; `1:30:00` stays a time."""
    host.run("reserve", "--gpu-ids", "0:0", "--duration", "1h")
    try:
        for words in (["0:0", "--duration", "1h"], ["0:0", "1h"], ["0:0", "1:30:00"], ["1:30:00"]):
            done = host.run("extend", *words)
            assert done.stdout.startswith("Extended 1 GPU(s): [0:0], expires in "), (words, done.stderr)
        turned = host.run("extend", "1h", "0:0")
        assert turned.stderr == "Error: the time comes last: canhazgpu extend 0:0 1h\n"
        two = host.run("extend", "0:0", "0:1", "--duration", "1h")
        assert two.stderr.startswith("Error: GPU 0:1 is not reserved")
    finally:
        host.run("release", "0:0")


def test_silence_an_instance(host: Daemon) -> None:
    """It is named in the answer and in the list."""
    done = host.run("silence", "add", "--gpu", "0:1", "--duration", "1h", "--reason", "test")
    assert done.stdout.startswith("Silenced GPU 0:1 for 1h 0m 0s: 1 open violation now")
    assert " GPU 0:1 " in host.run("silence", "list").stdout
