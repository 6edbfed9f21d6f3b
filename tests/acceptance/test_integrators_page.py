"""docs/integrators.md: every call of the API works as it is, in the order of the page."""

import json
import re
import shlex
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.daemon import Daemon, gpu, until, use
from support.programs import need

PAGE = (Path(__file__).parents[2] / "docs" / "integrators.md").read_text()
CALLS = re.findall(r"^    (curl (?:.*\\\n)*.*)$", PAGE, re.MULTILINE)
SOCKET = "/run/canhazgpu/canhazgpu.sock"
GPUS = (gpu(0), gpu(1, use(5004242, 1024, "bob", "python3")), gpu(2), gpu(3))
FIELDS = re.findall(
    r"`(\w+)`", PAGE.partition("the most useful fields:")[2].partition("These requests return")[0]
)


@pytest.fixture(scope="module")
def busy() -> Iterator[Daemon]:
    """Four GPUs; bob uses one without a reservation."""
    need("curl")
    with tempfile.TemporaryDirectory(prefix="chg-", dir="/tmp") as name:
        daemon = Daemon(Path(name)).start()
        daemon.place(*GPUS)
        until(lambda: json.loads(daemon.run("violations", "--json").stdout))
        yield daemon
        daemon.stop()


def words(host: Daemon, call: str) -> list[str]:
    """Return the words of a call on the page, for this host; curl fails if the service refuses."""
    return [
        *shlex.split(call.replace("\\\n", " ").replace(SOCKET, f"{host.folder}/s")),
        "--silent",
        "--show-error",
        "--fail",
    ]


def last_line(host: Daemon, call: str) -> Any:
    """Return the last line of a stream; of an endless one, the open violation."""
    line = ""
    with subprocess.Popen(words(host, call), stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if "follow" in call and "violation.opened" in line:
                running.terminate()
                break
    return json.loads(line)


def test_every_call_works(busy: Daemon) -> None:
    """Every call succeeds and returns JSON, and a stream has the events of the page."""
    answers = []
    for call in CALLS:
        if "--no-buffer" in call:
            answers.append(last_line(busy, call))
        else:
            done = subprocess.run(words(busy, call), capture_output=True, text=True, check=False, timeout=100)
            assert done.returncode == 0, (call, done.stderr)
            answers.append(json.loads(done.stdout))
    assert len(answers) == 18
    granted = [one for one in answers if isinstance(one, dict) and one.get("state") == "granted"]
    assert len(granted) == 2
    by_verb = {
        re.findall(r"localhost/\S*?(\w+)(?=[\s'?]|$)", call)[0]: one
        for call, one in zip(CALLS, answers, strict=True)
    }
    released = sorted(index for one in by_verb["release"] for index in one["gpus"])
    assert released == sorted(index for one in granted for index in one["reservation"]["gpus"])
    assert by_verb["drain"] == {"changed": [3], "reason": "fan is broken"}
    assert by_verb["undrain"] == {"changed": [3], "reason": None}
    assert {"scan_age_s", "stalled"} <= set(by_verb["health"])
    assert answers[-1]["type"] == "canhazgpu.violation.opened"


def test_the_fields_are_there(busy: Daemon) -> None:
    """Every field and value in the table of a GPU exists."""
    rows = json.loads(busy.run("status", "--json").stdout)
    states = {"AVAILABLE", "IN_USE", "UNRESERVED", "DRAINED", "UNMANAGED", "ERROR", "UNKNOWN", "PARTITIONED"}
    inside = {"user", "kind", "expires", "note"}
    assert len(FIELDS) > 20
    assert set(FIELDS) - states - inside <= set(rows[1])
    assert busy.run("reserve", "--gpu-ids", "0").returncode == 0
    assert inside <= set(json.loads(busy.run("status", "--json").stdout)[0]["reservation"])
    assert busy.run("release").returncode == 0


def test_the_problem_is_as_shown(busy: Daemon) -> None:
    """An error has the type, the status, the sentence and the remedy of the page."""
    block = PAGE.partition("media type `application/problem+json`:")[2].partition("}")[0] + "}"
    call = f"curl --unix-socket {SOCKET} http://localhost/v1/reservations"
    body = ["--data", '{"kind": "manual", "count": 9}']
    done = subprocess.run(
        [*words(busy, call)[:-1], *body], capture_output=True, text=True, check=True, timeout=100
    )
    assert json.loads(done.stdout) == json.loads(block)


def test_the_scenario_is_good(busy: Daemon) -> None:
    """The simulated GPUs of the page are shown as described."""
    (scenario,) = re.findall(r"^```toml\n(\[\[gpus.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(tomllib.loads(scenario)["gpus"]) == 3
    busy.place(scenario)
    until(lambda: "GPU 2: ERROR (GPU is lost" in busy.status())
    assert "GPU 0: AVAILABLE" in busy.status()
    assert "by user bob" in busy.status()
    busy.place(*GPUS)
    until(lambda: busy.status().count("AVAILABLE") == 3)
