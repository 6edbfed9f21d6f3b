"""What each view shows of a host whose GPU 0 is divided into MIG instances."""

import json
import re
import subprocess
from collections.abc import Iterator

import pytest
from support.daemon import COMMAND, Daemon, gpu, until, use
from support.exporter import values
from support.mig import instance
from support.programs import need
from support.screens import Screen
from support.web import Page, page_of

from canhazgpu.cli.reservations.history import _sum

WAITING = (("--mig", "3g.40gb"), ("--mig", "1g.10gb:2"), ("--gpu-ids", "0:0"), ("--gpu-ids", "0"))


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """0:0 is reserved, 0:1 used without a reservation, and four requests wait for instances."""
    made = Daemon(tmp_path_factory.mktemp("host"))
    used = use(12345, 1024, "bob", "python3")
    instances = [instance(number, "1g.10gb", f"MIG-{number}") for number in (0, 2)]
    made.place(gpu(0), *instances, instance(1, "3g.40gb", "MIG-1", used), gpu(1))
    made.start()
    until(lambda: "python3" in made.run("violations").stdout)
    made.run("reserve", "--gpu-ids", "0:0", "--duration", "1h")
    waiting = [_waiting(made, words, count) for count, words in enumerate(WAITING, 1)]
    yield made
    for one in waiting:
        one.kill()
        one.communicate()
    made.stop()


def _waiting(host: Daemon, words: tuple[str, str], count: int) -> "subprocess.Popen[bytes]":
    command = [*COMMAND, "reserve", *words, "--wait"]
    started = subprocess.Popen(
        command, env=host.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    until(lambda: len(json.loads(host.run("queue", "--json").stdout)) == count)
    return started


@pytest.fixture(scope="module")
def page(host: Daemon) -> Iterator[Page]:
    """The page of the host."""
    with page_of(host) as shown:
        yield shown


def test_the_queue(host: Daemon) -> None:
    """A number of instances is that of a profile, as in `--mig`."""
    shown = host.run("queue").stdout
    for wanted in ("3g.40gb", "1g.10gb:2", "GPU 0:0", "GPU 0"):
        assert re.search(f"  {wanted}  ", shown), wanted
    left = host.run("events", "--type", "request.queued", "--gpu", "0:0").stdout
    assert "gpus=0:0 kind=manual" in left
    assert "profile=3g.40gb" in host.run("events", "--type", "request.queued").stdout


def test_top(host: Daemon) -> None:
    """The tables below the GPUs name instances."""
    need("tmux")
    screen = Screen([*COMMAND, "top", "-i", "500ms"], host.environment, width=110, height=40)
    try:
        text = until(lambda: "Open violations: 1" in (text := screen.text) and text, 20)
    finally:
        screen.close()
    assert re.search(r"^root +3g\.40gb ", text, re.MULTILINE)
    assert re.search(r"^root +1g\.10gb:2 ", text, re.MULTILINE)
    assert re.search(r"^root +0:0 +manual ", text, re.MULTILINE)
    assert re.search(r"^bob +0:1 +unreserved ", text, re.MULTILINE)


def test_the_page(page: Page) -> None:
    """Sentences, and the table of the timeline, have the names, and no index."""
    text = until(lambda: "3g.40gb" in (text := page.get().text) and "waits for" in text and text, 30)
    assert "waits for 2 MIG instances 1g.10gb, since" in text
    assert "waits for 1 MIG instance 3g.40gb, since" in text
    assert "waits for GPU 0:0, since" in text
    table = page.get("/timeline").text.partition("reservations as a table")[2]
    assert re.search(r"<td[^>]*>0:0</td>", table)
    for path in ("/", "/timeline", "/violations", "/report?by=gpu"):
        assert not re.search(r">[^<]*\b10(24|25|26)\b[^<]*<", page.get(path).text), path


def test_metrics(page: Page) -> None:
    """Instances are labelled by their names, and the card has no memory that counts twice."""
    found = values(page.get("/metrics").text)
    state = {
        dict(labels)["state"]: found["canhazgpu_gpus", labels]
        for name, labels in found
        if name == "canhazgpu_gpus"
    }
    assert {name: count for name, count in state.items() if count} == {
        "available": 2,
        "in_use": 1,
        "unreserved": 1,
        "partitioned": 1,
    }
    totals = [dict(labels)["gpu"] for name, labels in found if name == "canhazgpu_gpu_memory_total_bytes"]
    assert sorted(totals) == ["0:0", "0:1", "0:2", "1"]


def test_what_is_cancelled(host: Daemon) -> None:
    """The sentence names the profile."""
    ids = {row["profile"]: row["id"] for row in json.loads(host.run("queue", "--json").stdout)}
    cancelled = host.run("cancel", ids["1g.10gb"]).stdout
    assert cancelled.endswith("which waited for 2 MIG instances 1g.10gb\n")


def test_the_hours_of_a_whole_card() -> None:
    """In the last line of `history` they are those of its instances, as in reports."""
    row = {"held_s": 3600, "gpus": [0, 1024, 1025]}
    assert _sum([row, {"held_s": 3600, "gpus": [1]}], complete=True) == "2 in all, 3.0 GPU-hours"
