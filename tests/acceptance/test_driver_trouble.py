"""If the driver does not start, every response says why, and what to do."""

import json

import pytest
from support.daemon import Daemon, until
from support.nvml import Say

CRASH = "the driver's library crashes when it reads this GPU: look at `dmesg` and `nvidia-smi`"
CARDS = "gpu GPU-aaaa H100 81559 45 500\ngpu GPU-bbbb H100 81559 45 500\n"
REASON = "Driver/library version mismatch"
REMEDY = "reboot, or reload the nvidia modules: the driver was upgraded"


@pytest.fixture
def upgraded(nvml_host: Daemon, say: Say) -> Daemon:
    """A service that knows two GPUs, with a driver that can no longer read them."""
    say(CARDS)
    nvml_host.start()
    until(lambda: nvml_host.status().count("AVAILABLE") == 2)
    nvml_host.stop()
    say(f"init 18\n{CARDS}")
    return nvml_host.start()


def test_the_lines_and_the_json_say_the_reason_and_the_remedy(upgraded: Daemon, say: Say) -> None:
    """Each GPU is UNKNOWN with NVML's reason, the remedy and the time; later everything works again."""
    lines = until(lambda: REASON in upgraded.status() and upgraded.status()).splitlines()
    for index, line in enumerate(lines):
        assert line.startswith(f"GPU {index}: UNKNOWN ({REASON}, no scan for 0h 0m ")
        assert line.endswith(f"s: {REMEDY})")
    for row in json.loads(upgraded.run("status", "--json").stdout):
        assert (row["status"], row["reason"].partition(", ")[0], row["remedy"]) == ("UNKNOWN", REASON, REMEDY)
    say(CARDS)
    until(lambda: upgraded.status().count("AVAILABLE") == 2)
    assert {row["remedy"] for row in json.loads(upgraded.run("status", "--json").stdout)} == {None}


def test_a_refusal_says_why_the_gpus_are_unknown(upgraded: Daemon) -> None:
    """A refusal has the reason once, and the remedy at the end."""
    until(lambda: REASON in upgraded.status())
    for which in (("--gpus", "2"), ("--gpu-ids", "1")):
        refused = upgraded.run("reserve", *which, "--nonblock")
        assert (refused.returncode, refused.stderr) == (
            1,
            f"Error: the GPUs cannot be read: {REASON} ({REMEDY})\n",
        )


def test_a_request_that_waits_says_what_for(upgraded: Daemon) -> None:
    """A waiting request has the driver's reason."""
    until(lambda: REASON in upgraded.status())
    with upgraded.redis() as redis:
        request = {
            "id": "r9",
            "kind": "manual",
            "user": "bob",
            "uid": 1001,
            "place": 9,
            "queued_ms": 1,
            "count": 1,
        }
        redis.hset("canhazgpu:{testhost}:queue", "r9", json.dumps(request))
    assert f"no GPU of this host can be read: {REASON}" in upgraded.run("queue").stdout


def test_the_doctor_says_it_of_the_service_and_of_the_driver(upgraded: Daemon) -> None:
    """The checks of doctor for GPUs and service fail, with reason and remedy."""
    until(lambda: REASON in upgraded.status())
    rows = {
        row["check"]: row
        for row in json.loads(upgraded.run("doctor", "--json").stdout)
        if row["state"] == "fail"
    }
    for check in ("service", "gpus"):
        assert REASON in rows[check]["found"]
        assert rows[check]["remedy"] == REMEDY


def test_a_host_whose_gpus_were_never_seen_says_it_too(nvml_host: Daemon, say: Say) -> None:
    """On a fresh installation, `status` is empty and says why, and so does a refusal."""
    say(f"init 9\n{CARDS}")
    nvml_host.start()
    remedy = "load the driver: `modprobe nvidia`, or install it"
    told = f"No GPU was found on this host: Driver Not Loaded: {remedy}\n"
    until(lambda: told in nvml_host.run("status").stderr)
    refused = nvml_host.run("reserve", "--nonblock")
    assert refused.stderr == f"Error: the GPUs cannot be read: Driver Not Loaded ({remedy})\n"


def test_a_gpu_in_trouble_of_its_own_says_what_to_do(nvml_host: Daemon, say: Say) -> None:
    """A GPU that needs a reset has its remedy in `status` and in a refusal."""
    say(f"{CARDS}lists 16\ngpu GPU-cccc H100 81559 45 500\nhandle 4\n")
    nvml_host.start()
    reset = "reset it with nvidia-smi while the service is stopped, or reboot"
    let = "run the service as root, or give it access to /dev/nvidia*"
    until(lambda: f"GPU 1: ERROR (GPU requires reset: {reset})" in nvml_host.status())
    assert f"GPU 2: UNKNOWN (Insufficient Permissions: {let})" in nvml_host.status()
    refused = nvml_host.run("reserve", "--gpus", "3", "--nonblock")
    assert (
        "1 GPU in error: GPU requires reset, 1 GPU unknown: Insufficient Permissions - run" in refused.stderr
    )
    assert refused.stderr.endswith(f"({reset}; {let})\n")


def test_a_gpu_at_which_the_library_crashes_hides_no_other(nvml_host: Daemon, say: Say) -> None:
    """A GPU at which the library crashes is in ERROR with an event; the others can be reserved."""
    say(f"{CARDS}crash\ngpu GPU-cccc H100 81559 45 500\n")
    nvml_host.start()
    until(lambda: nvml_host.status().count("AVAILABLE") == 2)
    assert f"GPU 1: ERROR ({CRASH})" in nvml_host.status()
    assert nvml_host.run("reserve", "--gpus", "2", "--nonblock").returncode == 0
    events = map(json.loads, nvml_host.run("events", "--json", "--type", "gpu.failed").stdout.splitlines())
    assert [(one["data"]["reason"], one["data"]["remedy"]) for one in events] == [tuple(CRASH.split(": "))]
    say(f"{CARDS}gpu GPU-cccc H100 81559 45 500\n")
    until(lambda: "GPU 1: AVAILABLE" in nvml_host.status(), 30)


def test_a_reservation_follows_its_card_when_another_falls_off_the_bus(nvml_host: Daemon, say: Say) -> None:
    """After a card is lost, NVML is initialised again, and reservations follow their cards."""
    lost, held = CARDS.splitlines(keepends=True)
    say(CARDS)
    nvml_host.start()
    until(lambda: nvml_host.status().count("AVAILABLE") == 2)
    assert nvml_host.run("reserve", "--gpu-ids", "1").returncode == 0
    say(f"sticky\n{lost}handle 15\n{held}")
    until(lambda: "GPU 0: ERROR (GPU is lost" in nvml_host.status())
    say(f"sticky\n{held}")
    until(lambda: nvml_host.status().startswith("GPU 0: IN USE by "), 30)
    say(f"sticky\n{CARDS}")
    until(lambda: "GPU 1: IN USE by " in nvml_host.status(), 60)
    assert "GPU 0: AVAILABLE" in nvml_host.status()
